/** What hostile or merely unusual people send. */
import { ITEM, contact } from "./material.js";

/** Each would set `window.hacked` if any of it ran. */
const ATTACKS = [
  "<script>window.hacked = 1</script>",
  "<img src=x onerror=\"window.hacked = 2\">",
  "<svg onload=window.hacked=3><a xlink:href=javascript:window.hacked=4>x</a></svg>",
  "javascript:window.hacked=5",
  "https://example.org/\"onmouseover=\"window.hacked=6",
  "http://user:secret@example.org/",
  "[x](javascript:alert(1)) data:text/html,<script>window.hacked=7</script>",
  "{{constructor.constructor('window.hacked=8')()}} ${window.hacked=9}",
  "</textarea></title><iframe srcdoc='<script>parent.hacked=10</script>'></iframe>",
];

export function hostileScene(ready) {
  const name = ATTACKS[1];
  const file = (of, more = {}) => ({ name: of, size: 120, mime: "text/html", isImage: false, state: "ready", progress: 1, url: URL.createObjectURL(new Blob([ATTACKS[0]], { type: "text/html" })), ...more });
  const svg = new Blob([`<svg xmlns="http://www.w3.org/2000/svg"><script>window.hacked=11</script></svg>`], { type: "image/svg+xml" });
  return {
    state: ready({
      contacts: [contact("mallory", name, { online: true, unread: 1, last: [ATTACKS[0], 1] }), contact("long", "W".repeat(300), { last: ["x".repeat(4_000), 3] })],
      requests: { incoming: [{ user: "eve", name: ATTACKS[2], created: Date.now() }], outgoing: [] },
    }),
    conversations: {
      mallory: {
        items: [
          ...ATTACKS.map((text, index) => ITEM(text, 60 - index)),
          ITEM("", 12, { kind: "file", file: file(ATTACKS[1]) }),
          ITEM("", 11, { kind: "file", file: file("holiday\u202Egpj.exe") }),
          ITEM("", 10, { kind: "file", file: { ...file("x.svg"), mime: "image/svg+xml", isImage: true, url: URL.createObjectURL(svg) } }),
          ITEM("", 9, { kind: "unreadable", reason: ATTACKS[1] }),
          ITEM(ATTACKS[1], 8, { kind: "notice" }),
          ITEM("failed", 7, { mine: true, status: "failed", reason: ATTACKS[1] }),
          ITEM("\u202Ethis is turned around", 6),
        ],
      },
      long: { items: [ITEM("x".repeat(5_000), 9), ITEM(`word ${"lighthouse ".repeat(6_000)}`, 8), ITEM("\n".repeat(300), 7), ITEM("Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢L̠ͨͧͩ͘G̴̻͈͍͔̹̑͗̎̅͛́Ǫ̵̹̻̝̳͂̌̌͘", 3)] },
    },
  };
}

export function rightToLeft(ready) {
  return {
    state: ready({
      contacts: [contact("noura", "نورة الحربي", { online: true, unread: 1, last: ["أراك غدًا عند الميناء", 3] }), contact("avi", "אבי לוי", { last: ["תודה רבה!", 60, "read"] })],
    }),
    conversations: {
      noura: {
        items: [
          ITEM("مرحبًا! هل وصلت الصور؟", 30),
          ITEM("نعم، جميلة جدًا. شكرًا", 28, { mine: true, status: "read" }),
          ITEM("العنوان: https://example.org/port رقم 12", 20),
          ITEM("OK, see you at the port ميناء at 9:30", 12, { mine: true, status: "delivered" }),
          ITEM("أراك غدًا عند الميناء", 3),
        ],
      },
    },
  };
}
