/** The left side, or the first screen of a phone: search, requests, conversations. */
import { Banners } from "./banners.js";
import { ContactRow } from "./contact_row.js";
import { count, plainName } from "./format.js";
import { isAlone, titleOf } from "./avatar.js";
import { useNow } from "./chat_context.js";
import { html, useMemo, useRef, useState } from "./html.js";
import { Icon, Logo } from "./icons.js";
import { useDrafts } from "./preferences.js";
import { go, openConversation } from "./router.js";

function matching(contacts, me, search) {
  const words = search.trim().toLocaleLowerCase();
  if (!words) return contacts;
  return contacts.filter((contact) => `${titleOf(contact, me)}\n${contact.user}`.toLocaleLowerCase().includes(words));
}

export function List({ state, open, wide }) {
  const [search, setSearch] = useState("");
  const [at, setAt] = useState(null);
  const rows = useRef(null);
  const now = useNow(60);
  const drafts = useDrafts(state.me.user);
  const shown = useMemo(() => matching(state.contacts, state.me, search), [state.contacts, state.me, search]);
  const focused = shown.some(({ user }) => user === at) ? at : shown.some(({ user }) => user === open) ? open : shown.length ? shown[0].user : null;
  const sheet = (name) => go({ user: open, sheet: [name] });

  const focusRow = (index) => {
    const links = rows.current ? rows.current.querySelectorAll("a") : [];
    if (links[index]) links[index].focus();
  };
  const onRowsKey = (event) => {
    const index = shown.findIndex(({ user }) => user === focused);
    const to = { ArrowDown: index + 1, ArrowUp: index - 1, Home: 0, End: shown.length - 1 }[event.key];
    if (to === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    if (to < 0) document.getElementById("search").focus();
    else focusRow(Math.min(to, shown.length - 1));
  };
  const onSearchKey = (event) => {
    if (event.key === "ArrowDown") {
      event.preventDefault();
      focusRow(0);
    } else if (event.key === "Enter" && search.trim() && shown.length) {
      event.preventDefault();
      setSearch("");
      openConversation(shown[0].user);
    } else if (event.key === "Escape" && search) {
      event.preventDefault();
      event.stopPropagation();
      setSearch("");
    }
  };

  return html`<section class="rail" aria-label="Conversations">
    <header class="rail-head">
      <p class="brand"><${Logo} /><span>Aldis</span></p>
      <button class="icon-button" aria-label="Add a friend" title="Add a friend" onClick=${() => sheet("add")}><${Icon}
        name="add" /></button>
      <button class="icon-button" aria-label="Settings" title="Settings" onClick=${() => sheet("settings")}><${Icon}
        name="settings" /></button>
    </header>
    <${Banners} state=${state} />
    ${!isAlone(state) &&
    html`<div class="search" role="search">
      <${Icon} name="search" />
      <input id="search" type="search" placeholder="Search people" aria-label="Search people" autocomplete="off" autocapitalize="none"
        spellcheck=${false}
        value=${search} onInput=${(event) => setSearch(event.target.value)} onKeyDown=${onSearchKey} />
      ${wide && !search && html`<kbd aria-hidden="true">Ctrl K</kbd>`}
    </div>`}
    <div class="rail-scroll">
      <${Requests} incoming=${state.requests.incoming} onOpen=${() => sheet("add")} />
      <ul class="contacts" ref=${rows} onKeyDown=${onRowsKey} aria-label="Conversations">
        ${shown.map(
          (contact) => html`<${ContactRow} key=${contact.user} contact=${contact} me=${state.me} open=${contact.user === open}
            draft=${contact.user === open ? "" : drafts.get(contact.user) || ""} tabbable=${contact.user === focused} now=${now} onFocus=${setAt} />`,
        )}
      </ul>
      ${(search.trim() ? !shown.length : isAlone(state)) && html`<${Nobody} search=${search.trim()} wide=${wide} onAdd=${() => sheet("add")} />`}
    </div>
  </section>`;
}

function Requests({ incoming, onOpen }) {
  if (!incoming.length) return null;
  const names = incoming.slice(0, 2).map(({ user, name }) => plainName(name || user)).join(", ");
  return html`<button class="requests-row" onClick=${onOpen}>
    <span class="requests-icon"><${Icon} name="add" /></span>
    <span class="requests-text"><strong>${count(incoming.length, "friend request", "friend requests")}</strong>
      <span><bdi>${names}</bdi>${incoming.length > 2 ? " and others" : ""}</span></span>
    <${Icon} name="forward" class="flip" />
  </button>`;
}

function Nobody({ search, wide, onAdd }) {
  if (search) {
    return html`<div class="nobody" role="status"><p>Nobody here is called “<bdi>${search}</bdi>”.</p>
      <button class="button quiet" onClick=${onAdd}>Add a friend</button></div>`;
  }
  return html`<div class="nobody">
    <h2>Nobody here yet</h2>
    <p>Ask a friend for their user id. When they have accepted, you can write to each other.</p>
    ${!wide && html`<button class="button primary" onClick=${onAdd}><${Icon} name="add" />Add a friend</button>`}
  </div>`;
}
