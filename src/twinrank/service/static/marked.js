// The sentence that fits best, marked where it stands.

import { el } from "./dom.js";

/** Where words stand in a text, whatever white space is between them; null if they do not. */
function find(text, words) {
  const pattern = words.trim().split(/\s+/).map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  const match = words.trim() ? new RegExp(pattern.join("\\s+")).exec(text) : null;
  return match && [match.index, match.index + match[0].length];
}

/** Paragraphs of a text; in the one that holds the sentence it is marked. */
function paragraphs(text, sentence) {
  const span = sentence ? find(text, sentence) : null;
  let start = 0;
  return text.split("\n").filter(Boolean).map((line) => {
    const from = text.indexOf(line, start);
    start = from + line.length;
    if (!span || span[1] <= from || span[0] >= start) return el("p", {}, line);
    const [left, right] = [Math.max(0, span[0] - from), Math.min(line.length, span[1] - from)];
    return el("p", {}, line.slice(0, left), el("mark", {}, line.slice(left, right)), line.slice(right));
  });
}

/**
 * A whole answer, by its sections where it has any.
 *
 * @param {{text: string, sections: {title: string, text: string}[]}} answer
 * @param {{section: string | null, sentence: string | null}} best
 * @param {string} heading the element of sections' titles
 * @returns {HTMLElement[]}
 */
export function wholeText(answer, { section = null, sentence = null } = {}, heading = "h4") {
  if (!answer.sections?.length) return paragraphs(answer.text, sentence);
  const holds = (part) => sentence && find(part.text, sentence);
  const best =
    answer.sections.find((part) => part.title === (section ?? "") && holds(part)) ??
    answer.sections.find(holds);
  return answer.sections.flatMap((part) => [
    part.title && el(heading, {}, part.title),
    ...paragraphs(part.text, part === best ? sentence : null),
  ]).filter(Boolean);
}
