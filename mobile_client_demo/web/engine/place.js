// Where the server is: chat.json, or what it said last time while there is no network.
import { Elsewhere } from "./database.js";
import { offline } from "./errors.js";

/** @typedef {{mqtt: string|null, mqtt_port: number|null, mqtt_path: string, version: string}} Place */

/** @param {Place} place @param {{protocol: string, hostname: string}} page */
export function mqttUrl(place, { protocol, hostname }) {
  if (place.mqtt) return place.mqtt;
  if (!place.mqtt_port) return null;
  return `${protocol === "https:" ? "wss" : "ws"}://${hostname}:${place.mqtt_port}${place.mqtt_path}`;
}

/** Asks the server, and remembers. Rejects where it cannot be reached and never was, and where another tab has the chat. @param {import("./database.js").Database} db */
export async function findPlace(db, base) {
  try {
    const answer = await fetch(`${base}/chat.json`, { cache: "no-store", signal: AbortSignal.timeout(10_000) });
    if (!answer.ok) throw offline();
    const place = await answer.json();
    await db.write((work) => work.put("meta", place, "place"));
    return place;
  } catch (error) {
    if (error instanceof Elsewhere) throw error;
    const known = await db.read((work) => work.get("meta", "place"));
    if (known === undefined) throw offline();
    return known;
  }
}
