// BPE training, one merge at a time. A token is a string of its bytes: one character from \x00 to \xff for each byte, so
// that comparing strings compares bytes.

/** Byte-level BPE as its definition reads, like bpe.reference. */
const bpe = {
  // GPT-2's pattern; \s of JavaScript and \s of Python differ in a few characters, White_Space does not.
  pattern:
    /'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+/gu,

  bytes: (text) => String.fromCharCode(...new TextEncoder().encode(text)),

  pretokens: (text) => (text.match(bpe.pattern) ?? []).map(bpe.bytes),

  /** Count equal items, in the order in which they first occur. */
  count(items) {
    const counts = new Map();
    for (const item of items) counts.set(item, (counts.get(item) ?? 0) + 1);
    return counts;
  },

  /** Replace every occurrence of a pair by its concatenation, from left to right. */
  merge(tokens, [first, second]) {
    const merged = [];
    for (let index = 0; index < tokens.length; index += 1) {
      const here = tokens[index] === first && tokens[index + 1] === second;
      merged.push(here ? first + second : tokens[index]);
      if (here) index += 1;
    }
    return merged;
  },

  /** The pairs of adjacent tokens with their counts: the most frequent first, among equals the greater pair of bytes. */
  pairs(words) {
    const found = new Map(); // Names are unique, because every token's length is part of them.
    for (const { tokens, count } of words) {
      for (let index = 0; index + 1 < tokens.length; index += 1) {
        const pair = tokens.slice(index, index + 2);
        const name = `${pair[0].length} ${pair.join("")}`;
        if (!found.has(name)) found.set(name, { pair, count: 0 });
        found.get(name).count += count;
      }
    }
    const greater = (a, b) => (a === b ? 0 : a > b ? -1 : 1);
    return [...found.values()].sort(
      (a, b) => b.count - a.count || greater(a.pair[0], b.pair[0]) || greater(a.pair[1], b.pair[1]),
    );
  },

  /** The pre-tokens of a text as words of single bytes, each once and with its count. */
  words(text) {
    return [...bpe.count(bpe.pretokens(text))].map(([word, count]) => ({ tokens: [...word], count }));
  },

  /** The merges in their order, at most `limit`. */
  train(text, limit) {
    let words = bpe.words(text);
    const merges = [];
    while (merges.length < limit) {
      const [best] = bpe.pairs(words);
      if (!best) break;
      merges.push(best.pair);
      words = words.map(({ tokens, count }) => ({ tokens: bpe.merge(tokens, best.pair), count }));
    }
    return merges;
  },

  /** The states of one pre-token while the merges are applied, the earliest first; the last one is its encoding. */
  encode(pretoken, merges) {
    const states = [[...pretoken]];
    for (;;) {
      const tokens = states.at(-1);
      const applies = ([first, second]) => tokens.some((token, index) => token === first && tokens[index + 1] === second);
      const next = merges.find(applies);
      if (!next) return states;
      states.push(bpe.merge(tokens, next));
    }
  },
};

figures.bpe = bpe;

figures.define("bpe-merges", (root) => {
  const { element, button } = figures;
  const EXAMPLE =
    "low low low low low lower lower\nwidest widest widest newest newest newest newest newest newest";
  const SHOWN = 10; // pairs in the list
  const PACE = 1200; // milliseconds between two merges

  let history = []; // history[k]: words and sorted pairs after k merges
  let step = 0;
  let timer = null;

  const text = element("textarea", { rows: 3, maxlength: 2000, spellcheck: "false", oninput: restart });
  text.value = EXAMPLE;
  const word = element("input", { type: "text", maxlength: 60, spellcheck: "false", autocapitalize: "off", oninput: show });
  word.value = " slowest";
  const back = button("◀ Back", () => go(step - 1));
  const next = button("Merge ▶", () => go(step + 1));
  const play = button("Play", () => (timer ? pause() : start()));
  const reset = button("Reset", () => go(0));
  const status = figures.spoken();
  const wordList = element("ul", { class: "plain" });
  const pairList = element("ol", { class: "plain" });
  const mergeList = element("ol", { class: "plain" });
  const encoded = element("div");

  root.append(
    element("label", { class: "field wide" }, element("span", {}, "Training text (you can change it)"), text),
    element("div", { class: "controls" }, back, next, play, reset),
    status,
    element(
      "div",
      { class: "columns" },
      element(
        "section",
        {},
        element("h4", {}, "Pre-tokens"),
        wordList,
        element(
          "p",
          {},
          element("span", { class: "chip next" }, "merged next"),
          " ",
          element("span", { class: "chip new" }, "just made"),
        ),
      ),
      element("section", {}, element("h4", {}, "Most frequent pairs"), pairList),
      element("section", {}, element("h4", {}, "Merges so far"), mergeList),
    ),
    element("label", { class: "field wide" }, element("span", {}, "Encode with these merges"), word),
    encoded,
  );
  restart();

  function restart() {
    pause();
    const start = bpe.words(text.value);
    history = [{ words: start, pairs: bpe.pairs(start) }];
    step = 0;
    show();
  }

  function start() {
    play.textContent = "Pause";
    timer = setInterval(advance, PACE);
    advance();
  }

  function advance() {
    go(step + 1, true);
    if (!history[step].pairs.length) pause();
  }

  function pause() {
    clearInterval(timer);
    timer = null;
    play.textContent = "Play";
  }

  function go(target, playing = false) {
    if (!playing) pause();
    while (history.length <= target) {
      const { words, pairs } = history.at(-1);
      const merged = words.map(({ tokens, count }) => ({ tokens: bpe.merge(tokens, pairs[0].pair), count }));
      history.push({ words: merged, pairs: bpe.pairs(merged) });
    }
    step = target;
    show();
  }

  function show() {
    const now = history[step];
    const chosen = now.pairs[0];
    const learned = history.slice(0, step).map((state) => state.pairs[0]);
    const made = learned.at(-1)?.pair.join("");
    setButtons(step > 0, Boolean(chosen));
    status.replaceChildren(...sentence(step, now.pairs));
    wordList.replaceChildren(
      ...now.words.map(({ tokens, count }) => element("li", {}, chips(tokens, made, chosen?.pair), times(count))),
    );
    pairList.replaceChildren(...now.pairs.slice(0, SHOWN).map((pair) => row(pair, chosen)));
    if (now.pairs.length > SHOWN) pairList.append(element("li", { class: "soft" }, `and ${now.pairs.length - SHOWN} more`));
    mergeList.replaceChildren(
      ...learned.map(({ pair, count }, index) =>
        element("li", {}, element("span", { class: "soft number" }, `${index + 1}.`), ...sum(pair), times(count)),
      ),
    );
    if (!learned.length) mergeList.append(element("li", { class: "soft" }, "none yet: a token is one byte"));
    mergeList.scrollTop = mergeList.scrollHeight;
    showEncoding(learned.map(({ pair }) => pair));
  }

  /** Enable the buttons that have something to do. The keyboard's place in the page does not get lost. */
  function setButtons(hasLast, hasNext) {
    const focused = document.activeElement;
    back.disabled = reset.disabled = !hasLast;
    next.disabled = play.disabled = !hasNext;
    if (focused.disabled && root.contains(focused)) (hasLast ? back : next).focus();
  }

  function sentence(step, pairs) {
    const before = `${step} ${step === 1 ? "merge" : "merges"}. `;
    if (!pairs.length) return [before, "No pairs are left: every pre-token is one token."];
    const [{ pair, count }] = pairs;
    const next = ["Next: ", ...sum(pair), `, ${count} ${count === 1 ? "time" : "times"}`];
    const ties = pairs.slice(1).filter((other) => other.count === count);
    if (!ties.length) return [before, ...next, ", more often than any other pair."];
    const others = ties.length === 1 ? " occurs" : ` and ${ties.length - 1} more occur`;
    return [before, ...next, ". ", ...sum(ties[0].pair), `${others} as often; the greater pair of bytes is merged.`];
  }

  function row(item, chosen) {
    const { pair, count } = item;
    const tied = count === chosen.count;
    const bar = element("span", { class: "bar", style: `--share: ${count / chosen.count}` });
    return element(
      "li",
      { class: item === chosen ? "pair chosen" : tied ? "pair tied" : "pair", "aria-current": item === chosen && "true" },
      element("span", {}, chip(pair[0]), " ", chip(pair[1])),
      bar,
      times(count),
    );
  }

  function showEncoding(merges) {
    const lines = bpe.pretokens(word.value).map((pretoken) => {
      const states = bpe.encode(pretoken, merges);
      const steps = states.flatMap((tokens, index) => [index ? " → " : "", chips(tokens)]);
      return element("li", { class: "encoding" }, ...steps, count(states.at(-1).length));
    });
    encoded.replaceChildren(element("ul", { class: "plain", "aria-label": "Encoding" }, ...lines));
  }

  function count(tokens) {
    return element("span", { class: "soft" }, ` ${tokens} ${tokens === 1 ? "token" : "tokens"}`);
  }

  function chips(tokens, made, pair) {
    const inPair = new Set();
    for (let index = 0; pair && index + 1 < tokens.length; index += 1) {
      if (tokens[index] === pair[0] && tokens[index + 1] === pair[1]) {
        inPair.add(index).add(index + 1);
        index += 1;
      }
    }
    const kind = (token, index) => (inPair.has(index) ? "next" : token === made ? "new" : "");
    return element("span", { class: "chips" }, ...tokens.map((token, index) => chip(token, kind(token, index))));
  }

  function chip(token, kind = "") {
    return element("span", { class: `chip ${kind}` }, visible(token));
  }

  function times(count) {
    return element("span", { class: "times" }, ` × ${count}`);
  }

  function sum([first, second]) {
    return [chip(first), " + ", chip(second)];
  }

  /** The text of a token, with signs for white space; bytes that are no text are hexadecimal. */
  function visible(token) {
    const bytes = Uint8Array.from(token, (character) => character.charCodeAt(0));
    try {
      const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
      if (!/[\p{Cc}\p{Cf}\p{M}]/u.test(text.replace(/[\n\t]/g, "")))
        return text.replace(/ /g, "␣").replace(/\n/g, "⏎").replace(/\t/g, "⇥");
    } catch {
      // Part of a character: hexadecimal, below.
    }
    return [...bytes].map((byte) => byte.toString(16).toUpperCase().padStart(2, "0")).join(" ");
  }
});
