// What a browser is called in the list of devices, as long as nobody gives it another name. Pure.

const BROWSERS = [["Edge", /Edg\//], ["Opera", /OPR\//], ["Firefox", /Firefox\/|FxiOS/], ["Chrome", /Chrome\/|CriOS/], ["Safari", /Safari\//]];
const SYSTEMS = [["iPhone", /iPhone/], ["iPad", /iPad/], ["Android", /Android/], ["Windows", /Windows/], ["Mac", /Mac OS X/], ["Linux", /Linux/]];

/** @param {string} agent as the browser calls itself */
export function platform(agent) {
  const find = (list) => list.find(([, pattern]) => pattern.test(agent))?.[0];
  return [find(BROWSERS) ?? "Browser", find(SYSTEMS)].filter(Boolean).join(" on ");
}
