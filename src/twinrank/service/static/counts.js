// Arithmetic of the admin view: days made into bins, shares with their uncertainty.

const DAY = 86_400_000; // milliseconds
const dateOf = (name) => Date.parse(`${name}T00:00:00Z`);
const format = (options) => new Intl.DateTimeFormat("en-GB", { timeZone: "UTC", ...options });
const SHORT = format({ day: "numeric", month: "short" });
const LONG = format({ weekday: "long", day: "numeric", month: "long" });

const nothing = () => ({ requests: 0, confident: 0, withheld: 0, right: 0, wrong: 0 });

/** Sums of rows, by field. */
export function sums(rows) {
  const total = nothing();
  for (const row of rows) for (const field of Object.keys(total)) total[field] += row[field];
  return total;
}

const COLOURS = 6; // of series in a chart

/** The types that have a series of their own, by name: the same ones, whatever days are shown. */
export function charted(known) {
  return known.slice(0, known.length > COLOURS ? COLOURS - 1 : COLOURS).sort();
}

/**
 * Types with the most requests first, each with its colour; those without one are taken together.
 *
 * @param {string[]} own types, each with the colour of its place; none leaves all by themselves
 */
export function byType(rows, own = null) {
  const grouped = Map.groupBy(rows, ({ type }) => (!own || own.includes(type) ? type : null));
  return [...grouped].map(([type, some]) => ({
    name: type === null ? "all other types" : type || "no type",
    colour: own && (type === null ? COLOURS - 1 : own.indexOf(type)),
    rows: some,
    total: sums(some),
  })).sort((a, b) => b.total.requests - a.total.requests);
}

/**
 * Days to the last one, in bins of so many days, the last bin whole; days without a row count.
 *
 * @returns {{short: string, long: string, pick: (rows: object[]) => object[]}[]}
 */
export function bins(days, width, today = Date.now()) {
  const last = Math.floor(today / DAY) * DAY;
  const length = Math.ceil(days / width);
  return Array.from({ length }, (_, i) => {
    const end = last - (length - 1 - i) * width * DAY;
    const start = Math.max(end - (width - 1) * DAY, last - (days - 1) * DAY);
    const long = start === end ? LONG.format(end) : `${SHORT.format(start)} to ${SHORT.format(end)}`;
    const within = ({ date }) => dateOf(date) >= start && dateOf(date) <= end;
    return { short: SHORT.format(start), long, pick: (rows) => rows.filter(within) };
  });
}

/** A share, and Wilson's (1927) 95 % interval of it; null of nothing. */
export function share(part, whole) {
  if (!whole) return null;
  const z = 1.96;
  const p = part / whole;
  const middle = p + (z * z) / (2 * whole);
  const half = z * Math.sqrt((p * (1 - p)) / whole + (z * z) / (4 * whole * whole));
  const scale = 1 + (z * z) / whole;
  return { value: p, low: (middle - half) / scale, high: (middle + half) / scale };
}
