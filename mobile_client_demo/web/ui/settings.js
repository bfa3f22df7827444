/** The settings, and the pages behind them. */
import { Avatar } from "./avatar.js";
import { DeleteAccount, LogOut, LogOutEverywhere, Password } from "./settings_account.js";
import { Devices } from "./settings_devices.js";
import { Dialog } from "./dialog.js";
import { html, useState } from "./html.js";
import { Icon } from "./icons.js";
import { askPermission, permission } from "./notify.js";
import { useTheme } from "./preferences.js";
import { back, closeSheet, go, here } from "./router.js";

const PAGES = {
  devices: ["Devices", Devices],
  password: ["Change password", Password],
  logout: ["Log out", LogOut],
  everywhere: ["Log out everywhere", LogOutEverywhere],
  delete: ["Delete account", DeleteAccount],
};

export function Settings({ state, page }) {
  const [title, Page] = PAGES[page] || ["Settings", Main];
  return html`<${Dialog} title=${title} onClose=${closeSheet} onBack=${PAGES[page] && back}><${Page} state=${state} /><//>`;
}

function Main({ state }) {
  const { me } = state;
  const to = (page) => go({ user: here().user, sheet: ["settings", page] });
  return html`<div class="portrait row">
      <${Avatar} user=${me.user} name=${me.name} large=${true} />
      <div><p class="portrait-name"><bdi>${me.name || me.user}</bdi></p><p class="portrait-line"><span
        class="id"><bdi>${me.user}</bdi></span></p></div>
    </div>
    ${!state.secure && html`<div class="card warn"><h3><${Icon} name="open" />This connection is not private</h3>
      <p>The page came over plain HTTP: whoever is on the same network can read along, passwords and keys included. Notifications and opening without a network need HTTPS as well.</p></div>`}
    <${Theme} />
    <${Notifications} />
    <ul class="options">
      <${Option} icon="devices" text="Devices" note="Where you are logged in" onClick=${() => to("devices")} />
      <${Option} icon="key" text="Change password" onClick=${() => to("password")} />
      <${Option} icon="help" text="Help and shortcuts" onClick=${() => go({ user: here().user, sheet: ["help"] }, { replace: true })} />
    </ul>
    <ul class="options">
      <${Option} icon="out" text="Log out" onClick=${() => to("logout")} />
      <${Option} icon="out" text="Log out everywhere" onClick=${() => to("everywhere")} />
      <${Option} icon="trash" text="Delete account" danger onClick=${() => to("delete")} />
    </ul>`;
}

function Option({ icon, text, note, danger, onClick }) {
  return html`<li><button class=${danger ? "option danger" : "option"} onClick=${onClick}>
    <${Icon} name=${icon} /><span
      class="option-text"><span>${text}</span>${note && html`<span class="option-note">${note}</span>`}</span><${Icon} name="forward"
      class="flip faint" />
  </button></li>`;
}

function Theme() {
  const [theme, setTheme] = useTheme();
  const choices = [
    ["auto", "Automatic"],
    ["light", "Light"],
    ["dark", "Dark"],
  ];
  return html`<fieldset class="choice"><legend>Appearance</legend>
    <div class="segments">${choices.map(
      ([value, text]) => html`<label key=${value}><input type="radio" name="theme" value=${value} checked=${theme === value}
        onChange=${() => setTheme(value)} /><span>${text}</span></label>`,
    )}</div>
  </fieldset>`;
}

const SAYS = {
  granted: "On for this browser while the page is in the background",
  denied: "The browser was told not to show any. Its own settings can change that",
  default: "Off. The browser asks when you switch them on",
  missing: "This browser shows none on a connection without HTTPS",
};

function Notifications() {
  const [now, setNow] = useState(permission());
  const ask = async () => setNow(await askPermission());
  return html`<ul class="options"><li>
    <div class="option still"><${Icon} name="bell" />
      <span class="option-text"><span>Notifications</span><span class="option-note" role="status">${SAYS[now]}</span></span>
      ${now === "default" && html`<button class="button small primary" onClick=${ask}>Switch on</button>`}
    </div>
  </li></ul>`;
}
