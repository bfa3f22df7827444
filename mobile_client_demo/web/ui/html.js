/** The one place that knows which library draws. Everything else imports from here. */
import { h } from "../vendor/htm-preact.esm.js";

export {
  Component,
  createContext,
  h,
  html,
  render,
  useCallback,
  useContext,
  useEffect,
  useLayoutEffect,
  useMemo,
  useRef,
  useState,
} from "../vendor/htm-preact.esm.js";

/** Several children with one key. */
export const Fragment = ({ children }) => children;

function shallow(a, b) {
  for (const name in a) if (a[name] !== b[name]) return false;
  for (const name in b) if (!(name in a)) return false;
  return true;
}

/**
 * A component that is drawn again only when one of its properties is another.
 * @param {Function} draw
 * @param {(a: object, b: object) => boolean} [same]
 */
export function memo(draw, same = shallow) {
  function shouldComponentUpdate(next) {
    return !same(this.props, next);
  }
  return function Memo(props) {
    this.shouldComponentUpdate = shouldComponentUpdate;
    return h(draw, props);
  };
}

/** Two values as JSON knows them are equal: for the small frozen objects that the engine makes anew. */
export function sameData(a, b) {
  if (a === b) return true;
  if (!a || !b || typeof a !== "object" || typeof b !== "object") return false;
  for (const name in a) if (!sameData(a[name], b[name])) return false;
  for (const name in b) if (!(name in a)) return false;
  return true;
}

/** class names: cx("a", open && "b") */
export const cx = (...names) => names.filter(Boolean).join(" ");
