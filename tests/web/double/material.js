/** People, messages and pictures for the scenes. */

/** Milliseconds, so many minutes ago. */
export const at = (minutes) => Date.now() - minutes * 60_000;

let made = 0;

export function ITEM(text, minutes, more = {}) {
  made += 1;
  return Object.freeze({ key: `m${made}`, mid: made, id: null, mine: false, device: null, ts: at(minutes), kind: "text", text, reason: null, status: null, file: null, ...more });
}

/** @param {[string, number, (string | null)?, string?]} more.last text, minutes ago, status where it is one's own, kind */
export function contact(user, name, { last, ...more } = {}) {
  const [text, minutes, status = null, kind = "text"] = last || [];
  return {
    user,
    name,
    state: "friends",
    online: false,
    lastSeen: null,
    typing: false,
    unread: 0,
    keyVersion: 1,
    sealed: false,
    muted: false,
    last: last ? { text, ts: at(minutes), mine: status !== null, status, kind } : null,
    ...more,
  };
}

/** A picture with something on it: a coast in the evening, painted here. */
export async function picture(hour) {
  const canvas = Object.assign(document.createElement("canvas"), { width: 960, height: 720 });
  const pen = canvas.getContext("2d");
  const sky = pen.createLinearGradient(0, 0, 0, 430);
  const [top, low] = hour === "evening" ? ["#20425e", "#f2a65a"] : ["#7fb7d6", "#f3ead2"];
  sky.addColorStop(0, top);
  sky.addColorStop(1, low);
  pen.fillStyle = sky;
  pen.fillRect(0, 0, 960, 430);
  pen.fillStyle = "#fff2c9";
  pen.beginPath();
  pen.arc(650, 380, 60, 0, 7);
  pen.fill();
  const sea = pen.createLinearGradient(0, 430, 0, 720);
  sea.addColorStop(0, hour === "evening" ? "#b06f4a" : "#6ba3b8");
  sea.addColorStop(1, "#173a52");
  pen.fillStyle = sea;
  pen.fillRect(0, 430, 960, 290);
  pen.fillStyle = "#14303f";
  pen.beginPath();
  pen.moveTo(0, 450);
  pen.quadraticCurveTo(160, 330, 330, 440);
  pen.quadraticCurveTo(420, 560, 360, 720);
  pen.lineTo(0, 720);
  pen.fill();
  pen.fillStyle = "#f6f1e4";
  pen.fillRect(168, 230, 34, 150);
  pen.fillStyle = "#a8412f";
  pen.fillRect(168, 268, 34, 34);
  pen.fillRect(160, 214, 50, 16);
  const blob = await new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.85));
  return { name: hour === "evening" ? "evening at the pier.jpg" : "morning.jpg", size: blob.size, mime: "image/jpeg", isImage: true, state: "ready", progress: 1, url: URL.createObjectURL(blob) };
}

export async function conversationOfAnna() {
  const mine = (status = "read") => ({ mine: true, status });
  return {
    items: [
      ITEM("You and Anna Berg can write to each other", 5_800, { kind: "notice" }),
      ITEM("Hello Lena! So this is it, our own server?", 5_790),
      ITEM("Yes. It stands in my cupboard and hums", 5_788, mine()),
      ITEM("One tick: it is on its disk. Two: it is with you. And when they light up, you have seen it", 5_788, mine()),
      ITEM("Lovely. No more “did you get my message?”", 5_780),
      ITEM("", 1_460, { kind: "file", file: await picture("evening") }),
      ITEM("From yesterday. Nobody on the water but us", 1_459),
      ITEM("😍", 1_450, mine()),
      ITEM("A new encryption key is in use", 1_400, { kind: "notice" }),
      ITEM("Shall we go out again at the weekend? The forecast says three to four from the south-west, and dry until Sunday evening.", 42),
      ITEM("https://www.example.org/weather/coast", 42),
      ITEM("Gladly! I bring the coffee and the charts", 30, mine()),
      ITEM("", 29, { ...mine(), kind: "file", file: { name: "Tide table November.pdf", size: 284_113, mime: "application/pdf", isImage: false, state: "ready", progress: 1, url: URL.createObjectURL(new Blob(["tides"])) } }),
      ITEM("Low water is at 8:50, so not too early", 29, mine("delivered")),
      ITEM("Then Saturday, half past nine at the pier ⛵", 4),
    ],
  };
}

const SAYINGS = [
  "Yes",
  "I looked at it again, and the second version is the better one.",
  "Can you send me the address?",
  "A somewhat longer message, as people write them when they explain something: first this, then that, and in the end it turns out that it was the other thing after all, as so often.",
  "Thanks!",
  "On my way, ten minutes",
  "See https://example.org/a/page for the details",
];

/** @param {number} number here at once @param {number} [before] to be loaded on scrolling back */
export function manyMessages(number, before = 0) {
  const all = number + before;
  const items = [];
  for (let index = 1; index <= all; index += 1) {
    const mine = index % 5 < 2;
    items.push(ITEM(`message ${index - before}: ${SAYINGS[index % SAYINGS.length]}`, (all - index) * 9 + 1, mine ? { mine, status: "read" } : {}));
  }
  return { items: items.slice(before), older: items.slice(0, before), more: before > 0 };
}
