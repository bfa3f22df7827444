/** What a double plays: one function for each scene, so that nothing is made that is not shown. */
import { hostileScene, rightToLeft } from "./hard_scenes.js";
import { ITEM, at, contact, conversationOfAnna, manyMessages } from "./material.js";

const ME = { user: "lena", name: "Lena Vogt", device: "web-7f3a" };
const online = () => ({ state: "online", since: at(30), retryAt: null, reason: null });

function everydayContacts() {
  return [
    contact("anna.berg", "Anna Berg", { online: true, last: ["Then Saturday, half past nine at the pier ⛵", 4], keyVersion: 3 }),
    contact("joris", "Joris de Wit", { online: true, typing: true, unread: 2, last: ["Have you seen the photos?", 11] }),
    contact("lena", "Lena Vogt", { last: ["Library card: 4471 0093", 95, "sent"] }),
    contact("greenhouse", "Greenhouse", { online: true, unread: 12, muted: true, last: ["Bed 3: 21.4 °C, soil 38 %", 130] }),
    contact("mehmet-k", "Mehmet Kaya", { lastSeen: at(5), last: ["On my way", 180, "read"] }),
    contact("sofia.lindqvist", "Sofia Lindqvist", { lastSeen: at(1_600), last: ["floor plan, second version.pdf", 1_560, "delivered", "file"] }),
    contact("tomek", "", { lastSeen: at(2_900), last: ["ok", 2_880, "sent"] }),
    contact("$server", "", { last: ["Maintenance tonight at ten, for about a quarter of an hour.", 4_300] }),
    contact("old-flat", "Old flatmates’ association", { state: "blocked", lastSeen: at(90_000), last: ["Bye then", 43_000] }),
    contact("yuki", "Yuki Tanaka", { lastSeen: at(11_000), sealed: true, last: ["", 12_000, null, "unreadable"] }),
  ];
}

const DEVICES = [
  { device: "web-7f3a", name: "Firefox on the laptop", created: at(50_000), lastSeen: at(0), loggedIn: true, current: true },
  { device: "phone-lena", name: "Phone", created: at(400_000), lastSeen: at(7), loggedIn: true, current: false },
  { device: "kitchen-tablet", name: "", created: at(600_000), lastSeen: at(30_000), loggedIn: false, current: false },
];

const REQUESTS = {
  incoming: [
    { user: "noor.haddad", name: "Noor Haddad", created: at(35) },
    { user: "paul_w", name: "", created: at(3_000) },
  ],
  outgoing: [{ user: "elif", name: "", created: at(1_500) }],
};

const ready = (changes) => ({ phase: "ready", reason: null, secure: true, me: ME, link: online(), contacts: everydayContacts(), requests: { incoming: [], outgoing: [] }, waiting: 0, ...changes });

async function everyday(changes = {}) {
  return {
    state: ready({ requests: REQUESTS, ...changes }),
    devices: DEVICES,
    conversations: {
      "anna.berg": await conversationOfAnna(),
      joris: { items: [ITEM("Back from the island!", 40), ITEM("Have you seen the photos?", 11), ITEM("The one with the lighthouse is my favourite", 11)] },
      lena: { items: [ITEM("Library card: 4471 0093", 95, { mine: true, status: "sent" })] },
      $server: { items: [ITEM("Maintenance tonight at ten, for about a quarter of an hour.", 4_300)] },
      yuki: { items: [ITEM("", 12_000, { kind: "unreadable", reason: "Sealed: only your devices with a key of their own can read this." })] },
      "old-flat": { items: [ITEM("Bye then", 43_000)] },
      tomek: { items: [ITEM("Did the parcel come?", 2_890), ITEM("ok", 2_880, { mine: true, status: "sent" })] },
    },
  };
}

function ticks() {
  const statuses = ["read", "delivered", "sent", "sending", "waiting", "failed"];
  const items = statuses.map((status, index) => ITEM(`This one is ${status}.`, 12 - index, { mine: true, status, reason: status === "failed" ? "They have not accepted you, or have blocked you." : null }));
  return { state: ready({ waiting: 2 }), still: true, conversations: { "anna.berg": { items } } };
}

function transfers() {
  const file = (name, state, more = {}) => ({ name, size: 4_831_838, mime: "application/pdf", isImage: false, state, progress: 0, url: null, ...more });
  const item = (value, minutes, more = {}) => ITEM(value.name, minutes, { kind: "file", file: value, ...more });
  return {
    still: true,
    state: ready(),
    conversations: {
      "anna.berg": {
        items: [
          item(file("Minutes of the meeting.pdf", "none"), 20),
          item(file("recording-2026-11-20-with-a-very-long-name-that-nobody-would-ever-type-by-hand.opus", "downloading", { progress: 0.64 }), 18),
          item(file("archive.zip", "failed"), 16),
          item(file("old plan.pdf", "gone"), 15),
          item(file("map.pdf", "ready", { url: URL.createObjectURL(new Blob(["map"])) }), 14),
          item(file("holiday.jpg", "none", { isImage: true, mime: "image/jpeg", size: 8_400_000 }), 12),
          item(file("survey.csv", "uploading", { progress: 0.3 }), 8, { mine: true, status: "sending" }),
          item(file("letter.odt", "ready"), 6, { mine: true, status: "failed", reason: "There is no room left on the server." }),
        ],
      },
    },
  };
}

function many() {
  const contacts = [contact("bob", "Bob", { online: true, last: ["message 5000", 1] })];
  for (let number = 1; number < 300; number += 1) {
    contacts.push(contact(`person-${number}`, `Person ${number}`, { lastSeen: at(number * 7), unread: number % 9 === 0 ? number % 120 : 0, last: [`The last thing that person ${number} said`, number * 5, number % 2 ? "read" : null] }));
  }
  return { state: ready({ contacts }), conversations: { bob: manyMessages(5_000) } };
}

const SCENES = {
  everyday,
  empty: () => ({ state: ready({ contacts: [] }) }),
  requests: () => everyday(),
  "signed-out": () => ({ state: { phase: "signed-out" } }),
  removed: () => ({ state: { phase: "signed-out", reason: "This device was removed. Log in again." } }),
  "wrong-login": () => ({
    state: { phase: "signed-out" },
    refuse: { login: ["wrong-login", "User id or password is wrong."], register: ["user-taken", "Somebody has this user id already. Choose another one."] },
  }),
  "too-many": () => ({ state: { phase: "signed-out" }, refuse: { login: ["too-many-attempts", "Too many attempts.", 42] } }),
  starting: () => ({ hold: true }),
  elsewhere: () => ({ state: { phase: "elsewhere" } }),
  unusable: () => ({ state: { phase: "unusable", reason: null } }),
  offline: () => everyday({ waiting: 3, link: { state: "offline", since: at(3), retryAt: Date.now() + 24_000, reason: null } }),
  connecting: () => everyday({ link: { state: "connecting", since: at(3), retryAt: null, reason: null } }),
  refused: () => everyday({ link: { state: "refused", since: at(3), retryAt: null, reason: "The server cannot look anything up at the moment." } }),
  insecure: () => everyday({ secure: false }),
  "insecure-door": () => ({ state: { phase: "signed-out", secure: false } }),
  loading: async () => ({ ...(await everyday()), conversations: { "anna.berg": { items: [], loading: true, more: true } } }),
  unread: async () => ({ state: ready({ contacts: [contact("bob", "Bob", { online: true, unread: 6, last: ["message 80", 1] })] }), conversations: { bob: manyMessages(80) } }),
  history: () => ({ state: ready({ contacts: [contact("bob", "Bob", { online: true, last: ["message 60", 1] })] }), conversations: { bob: manyMessages(60, 140) } }),
  ticks,
  transfers,
  many,
  hostile: () => hostileScene(ready),
  rtl: () => rightToLeft(ready),
};

export async function sceneNamed(name) {
  return SCENES[name]();
}
