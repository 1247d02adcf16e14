// Reads a pasted conversation: lines `Role: text`, as help desks export them.

const LABEL = /^\s*(\p{L}[\p{L}\p{N}_. -]{0,30}?)\s*:(?:\s+|$)/u;
const KNOWN = new Set(
  ["user", "agent", "customer", "client", "support", "assistant", "bot", "visitor", "operator"]);

const labelOf = (line) => LABEL.exec(line)?.[1] ?? null;

/**
 * Turns of a transcript. A line begins a turn if its label is a usual role, the first of the text,
 * or there more than once; so `Error: disk full` inside a turn stays there. Null for a text that
 * does not begin with a label.
 *
 * @param {string} text
 * @returns {{role: string, text: string}[] | null}
 */
export function turnsOf(text) {
  const lines = text.split(/\r?\n/);
  const first = labelOf(lines.find((line) => line.trim()) ?? "");
  if (!first) return null;
  const times = new Map();
  for (const label of lines.map(labelOf)) times.set(label, (times.get(label) ?? 0) + 1);
  const begins = (label) =>
    label && (label === first || times.get(label) > 1 || KNOWN.has(label.toLowerCase()));
  const turns = [];
  for (const line of lines) {
    const label = labelOf(line);
    if (begins(label)) turns.push({ role: label.replace(/\s+/g, " "), text: line.replace(LABEL, "") });
    else if (turns.length) turns.at(-1).text += `\n${line}`;
  }
  return turns.map(({ role, text: said }) => ({ role, text: said.trim() })).filter((turn) => turn.text);
}
