// One stock mqtt.js client. Arguments: URL, user, password, device, "clean" or "persistent", QoS.
// Standard output, one JSON object a line: what it receives, {"ready": …}, {"acknowledged": …}.
// Standard input, one JSON object a line: {"topic", "payload", "qos"} to be published. Its end means DISCONNECT.
import { createInterface } from "node:readline";
import mqtt from "mqtt";

const [url, username, password, clientId, session, qos] = process.argv.slice(2);
const say = (what) => process.stdout.write(JSON.stringify(what) + "\n");

const client = mqtt.connect(url, {
  username,
  password,
  clientId,
  clean: session === "clean",
  protocolVersion: 4,
  reconnectPeriod: 0,
  keepalive: 30,
});
client.on("connect", () =>
  client.subscribe(`inbox/${username}/#`, { qos: Number(qos) }, (error, granted) => say({ ready: granted, error })),
);
client.on("message", (topic, payload) => say({ topic, payload: payload.toString() }));
client.on("error", (error) => say({ error: String(error) }));
client.on("close", () => say({ closed: true }));

const commands = createInterface({ input: process.stdin });
commands.on("line", (line) => {
  const { topic, payload, qos } = JSON.parse(line);
  client.publish(topic, payload, { qos }, (error) => say({ acknowledged: topic, error }));
});
commands.on("close", () => client.end(false, {}, () => process.exit(0)));
