// Chance that can be repeated: mulberry32. A failing test names its seed.
export function chance(seed) {
  let state = seed >>> 0;
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  const below = (limit) => Math.floor(next() * limit);
  return {
    next, below,
    pick: (list) => list[below(list.length)],
    shuffled: (list) => {
      const mixed = [...list];
      for (let place = mixed.length - 1; place > 0; place -= 1) {
        const other = below(place + 1);
        [mixed[place], mixed[other]] = [mixed[other], mixed[place]];
      }
      return mixed;
    },
  };
}
