import { Chat } from "./engine/chat.js";
import { App } from "./ui/app.js";
import { html, render } from "./ui/html.js";
import { keepPage } from "./keep.js";

const chat = new Chat();
render(html`<${App} chat=${chat} />`, document.getElementById("app"));
await chat.open();

await keepPage(chat);
