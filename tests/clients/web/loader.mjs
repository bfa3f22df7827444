// The files of the web chat are modules in files named .js, as browsers want them; Node is told so here.
import { register } from "node:module";

const HOOKS = `
export async function load(url, context, next) {
  const web = url.includes("/mobile_client_demo/web/") && url.endsWith(".js");
  return next(url, web ? { ...context, format: "module" } : context);
}
export async function resolve(name, context, next) {
  const found = await next(name, context);
  const web = found.url.includes("/mobile_client_demo/web/") && found.url.endsWith(".js");
  return web ? { ...found, format: "module" } : found;
}`;
register(`data:text/javascript,${encodeURIComponent(HOOKS)}`);
