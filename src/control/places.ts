/**
 * Small integers for big identities: the counter slot of a rule, the next-hop index of a server address. A place that
 * is given up is not given out again before every worker has left the images that named it (design of publishing:
 * docs/decisions/0012). Pure values; the controller says when the workers have moved on.
 */

export interface Places {
  readonly byKey: ReadonlyMap<string, number>;
  /** Places given up, with the generation of the first image that no longer names them. */
  readonly retiring: readonly { readonly place: number; readonly generation: number }[];
  /** Free places below `next`, in ascending order. */
  readonly free: readonly number[];
  /** All places from here on were never used. */
  readonly next: number;
}

export const NO_PLACES: Places = { byKey: new Map(), retiring: [], free: [], next: 0 };

/**
 * Places for exactly `keys`: known keys keep theirs, keys that are gone retire with `generation` (the image about to be
 * published), new keys get the lowest free place.
 */
export function assignPlaces(places: Places, keys: Iterable<string>, generation: number): Places {
  const wanted = new Set(keys);
  if (wanted.size === places.byKey.size && wanted.isSubsetOf(places.byKey)) return places;
  const byKey = new Map<string, number>();
  const retiring = [...places.retiring];
  for (const [key, place] of places.byKey) {
    if (wanted.has(key)) byKey.set(key, place);
    else retiring.push({ place, generation });
  }
  const free = [...places.free];
  let { next } = places;
  for (const key of wanted) if (!byKey.has(key)) byKey.set(key, free.shift() ?? next++);
  return { byKey, retiring, free, next };
}

/** Makes retired places free again once every worker uses `adoptedGeneration` or a later image. */
export function releasePlaces(places: Places, adoptedGeneration: number): Places {
  const done = places.retiring.filter((entry) => entry.generation <= adoptedGeneration);
  if (done.length === 0) return places;
  return {
    ...places,
    retiring: places.retiring.filter((entry) => entry.generation > adoptedGeneration),
    free: [...places.free, ...done.map((entry) => entry.place)].sort((a, b) => a - b),
  };
}
