"""The limits and time-outs of the connector: name, default, reason. docs/operations.md lists what happens at each."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from aldis.config.section import Natural, Positive, Rate, Seconds, Section


class Limits(Section):
    max_connections_per_address: Natural = 5_000
    """Connections of one address (IPv6: one /64) open at once; the next one is closed at once. 0: no limit. Half of a
    listener's, since a whole company or a mobile network may stand behind one address."""
    connection_burst_per_address: Positive = 5_000
    """New connections that one address may open at once: all of its clients after a restart."""
    connections_per_second_per_address: Rate = 100.0
    """New connections that one address regains each second; one too many is closed at once. 0: no limit."""
    connection_burst: Positive = 10_000
    """New connections that one listener takes at once."""
    connections_per_second: Rate = 1_000.0
    """New connections that one listener regains each second, about what one core can greet; one too many is closed at
    once. 0: no limit."""
    failed_connect_burst_per_address: Positive = 100
    """CONNECTs with wrong credentials that one address may make at once; then CONNECT is answered with 3 unread."""
    failed_connects_per_minute_per_address: Rate = 60.0
    """Failed CONNECTs that one address regains each minute. Good ones do not count. 0: no limit."""
    failed_connect_burst_per_user: Positive = 20
    """Failed CONNECTs that one user name may have at once; then it is answered with 3 unread, but only from addresses
    that have failed themselves: nobody can lock a user out from elsewhere."""
    failed_connects_per_minute_per_user: Rate = 10.0
    """Failed CONNECTs that one user name regains each minute. 0: no limit."""
    max_addresses: Positive = 10_000
    """Addresses, and as many user names, whose attempts are remembered; then those longest untouched are forgotten, and
    begin anew with a full burst."""
    publish_burst: Positive = 10_000
    """Publishes that one user may make at once, over all its connections to this node: what a busy sensor has collected
    in an hour without a network."""
    publishes_per_second: Rate = 2_000.0
    """Publishes that one user regains each second. Beyond them we read no more from the connection that publishes; what
    was read already is taken up to a second burst, then answered with a `failed` receipt `rate`. 0: no limit."""
    publish_bytes_burst: Positive = 125_000_000
    """Bytes (topic and payload) that one user may publish at once."""
    publish_bytes_per_second: Rate = 12_500_000.0
    """Bytes that one user regains each second: a line of 100 Mbit/s, full. 0: no limit."""
    memory_high_water: Natural = 0
    """Bytes of resident memory above which the node takes no new connections and sessions, says so in the log and is
    not ready; below nine tenths of it, it does again. 0: off, since only who runs it knows the machine; half of what
    the machine or the container has is a good value."""
    max_packet_size: Positive = 262_144
    """Bytes of one MQTT packet, header included; a longer one closes the connection before it is buffered."""
    max_message_size: Positive = 65_536
    """Bytes of one chat payload; a longer one is answered with a `failed` receipt. Files go over REST."""
    max_inflight: Annotated[int, Field(gt=0, le=65_535)] = 100
    """Deliveries sent to one session and not yet acknowledged. 100 small ones fill a slow radio link for a second."""
    max_unacknowledged: Positive = 256
    """Publishes taken from one connection and not yet acknowledged; at the limit we stop reading from it."""
    max_unacknowledged_bytes: Positive = 134_217_728
    """Bytes of publishes that wait on this node for a commit or are held back, over all connections; beyond them
    nothing more is read from any connection that has such a publish. 128 MiB: a few times that in memory at worst, and
    a second of a fast disk."""
    max_queued: Positive = 1_000
    """Plain (not inbox) messages of QoS 1 and 2 waiting for one session; at the limit `queue_policy` decides."""
    max_queued_bytes: Positive = 4_194_304
    """Bytes of those messages; at the limit the same happens. 4 MiB: 1,000 messages of the usual size, and no more than
    that for a device that never comes back."""
    queue_policy: Literal["drop_new", "drop_oldest", "disconnect"] = "drop_new"
    """What a full queue does: `drop_new` drops the message that came last, so that what waits stays whole and in order;
    `drop_oldest` makes room for it, for telemetry whose last value counts; `disconnect` drops it and closes the
    connection, so that the client notices (an absent device: as `drop_new`). QoS 0 is never queued: it goes first."""
    max_topic_levels: Positive = 32
    """Levels in a topic or filter; more closes the connection (publish) or is refused (subscribe)."""
    max_filter_wildcards: Positive = 8
    """Wildcards in one filter; more are refused with 0x80. Each `+` may double the work of a look-up."""
    max_filter_length: Positive = 1_024
    """Characters of one filter; a longer one is refused with 0x80. MQTT allows 65,535 bytes, and a session may keep
    1,000 of them."""
    max_subscriptions: Positive = 1_000
    """Filters of one session; more are refused with 0x80."""
    max_retained: Positive = 100_000
    """Retained messages kept by the node; at the limit a new topic is not retained."""
    max_retained_bytes: Positive = 134_217_728
    """Bytes of them, topics included; what does not fit is not retained. 128 MiB: 100,000 of 1.3 KB."""
    max_retained_size: Positive = 65_536
    """Bytes of one retained payload; a longer one is delivered, but not retained. As long as a chat message may be."""
    max_retained_per_user: Positive = 1_000
    """Retained messages of one user in the store (`devices/{user}/…`); at the limit a new topic is not retained. A
    house full of sensors."""
    max_unwritten_retained: Positive = 10_000
    """Changes of retained messages that the store does not have yet; beyond them those that have waited longest are
    dropped. Only a store that takes nothing makes so many wait: it gets 1,000 and more in a tenth of a second."""
    max_unwritten_retained_bytes: Positive = 16_777_216
    """Bytes of those changes, topics included; likewise."""
    max_will_size: Positive = 8_192
    """Bytes of a will's payload; a longer one is refused at CONNECT. Every connection keeps one in memory."""
    max_write_buffer: Positive = 262_144
    """Bytes waiting to be taken by one slow client; beyond them nothing more is produced for it, nor read from it."""
    max_devices_per_user: Positive = 20
    """Known devices of one user; the next new one is refused its inbox with 0x80 when it subscribes."""
    max_sessions: Positive = 100_000
    """Sessions kept by the node, connected or persistent; at the limit a new one is refused as unavailable."""
    max_hold_back: Positive = 64
    """Publishes held back per (device, recipient) while a `seq` is missing; at the limit the new one fails."""
    max_receipts_at_connect: Positive = 1_000
    """Receipt states sent again when a device subscribes, most recent first."""
    live_buffer: Positive = 100
    """Live items kept in memory for one device whose window is full; beyond it the store is read again."""
    read_batch: Positive = 200
    """Backlog items read from the store at once for one device."""
    commit_batch: Positive = 1_000
    """Messages in one group commit; more wait for the next one. 1,000 rows take about 20 ms."""


class Timeouts(Section):
    connect: Seconds = 10.0
    """Seconds from accepting a connection to its complete CONNECT."""
    acknowledge: Seconds = 20.0
    """Seconds a delivery waits for its acknowledgement before it is sent again with DUP."""
    max_retries: Annotated[int, Field(ge=0)] = 3
    """Times a delivery is sent again without any acknowledgement before the connection is closed (article 8.1)."""
    slow_reader: Seconds = 60.0
    """Seconds that a client may leave a full write buffer unread before its connection is closed."""
    hold_back: Seconds = 5.0
    """Seconds a publish is held back for a missing `seq` before it is answered with a `failed` receipt."""
    collect_acknowledgements: Seconds = 0.05
    """Seconds that acknowledgements of devices are collected before cursors and delivered receipts are committed. Under
    load it saves more than half of what they cost; nobody sees a tick turn 50 ms later."""
    collect_retained: Seconds = 0.1
    """Seconds that changes of retained messages are collected before they are written: so much of them a crash may
    cost. A sensor that changes its value a hundred times a second is written ten times."""
    read_retained: Seconds = 2.0
    """Seconds, at most, that a SUBACK waits for a user's retained messages to be read from the store; then it goes out
    without them, and they follow when they are there."""
    session_expiry: Seconds = 604_800.0
    """Seconds a persistent session without a connection is kept: a week."""
    commit_retry: Seconds = 0.5
    """Seconds between attempts of a group commit while the store is unavailable."""
    commit_linger: Annotated[float, Field(ge=0)] = 0.003
    """Seconds, at most, that a group commit waits for more messages while commits follow one another. Under full load a
    third more messages share each fsync; a single message on a quiet server never waits."""
    store_down_close: Annotated[float, Field(ge=0)] = 0.0
    """Seconds that the store may take no commits before the connections are closed, so that clients may try another
    node. 0: they are kept, which is right where every node has the same store; nothing is acknowledged meanwhile."""
    shutdown: Seconds = 10.0
    """Seconds that running commits and the HTTP server may take to finish at shutdown."""
