"use strict";
(() => {
  const sheet = JSON.parse(document.getElementById("sheet").textContent);
  const pairs = sheet.pairs;
  const at = (id) => document.getElementById(id);
  const buttons = [...document.querySelectorAll("[data-verdict]")];
  const said = { A: "A is better", B: "B is better", tie: "tie", unsure: "can’t judge" };
  const storageKey = `lidr-review ${sheet.sheet}`;

  // marks: pair -> {verdict: "A" | "B" | "tie" | "unsure" | null, comment}
  const state = { position: 0, name: "", level: "", shortcuts: true, marks: new Map() };
  let isSaved = true;

  // --- progress in this browser; it may refuse, as some do for pages opened from a file ---

  let storage = null;
  try {
    storage = window.localStorage;
    storage.setItem(`${storageKey} test`, "1");
    storage.removeItem(`${storageKey} test`);
  } catch {
    storage = null;
  }

  function keep() {
    try {
      storage?.setItem(storageKey, JSON.stringify({ ...state, marks: [...state.marks] }));
    } catch {
      storage = null;
    }
    showStorage();
  }

  function recall() {
    try {
      const kept = JSON.parse(storage?.getItem(storageKey) ?? "null");
      if (kept) Object.assign(state, kept, { marks: new Map(kept.marks) });
    } catch {
      // what cannot be read is as if it were not there
    }
    state.position = Math.min(Math.max(0, state.position | 0), pairs.length - 1);
  }

  // --- what is shown ---

  const mark = (pair) => state.marks.get(pair.pair) ?? { verdict: null, comment: "" };
  const judged = () => pairs.filter((pair) => mark(pair).verdict !== null).length;
  const tell = (text) => { at("status").textContent = text; };

  function fill(id, part) {
    const box = at(id);
    box.textContent = part.text;
    box.dir = part.dir;
  }

  function show() {
    const pair = pairs[state.position];
    const { verdict, comment } = mark(pair);
    at("place").textContent = `Pair ${state.position + 1} of ${pairs.length}`;
    fill("prompt", pair.prompt);
    fill("text-A", pair.A);
    fill("text-B", pair.B);
    for (const side of ["A", "B"]) at(`side-${side}`).classList.toggle("better", verdict === side);
    for (const button of buttons) button.setAttribute("aria-pressed", String(button.dataset.verdict === verdict));
    if (at("comment").value !== comment) at("comment").value = comment;
    at("previous").disabled = state.position === 0;
    at("next").disabled = state.position === pairs.length - 1;
    showProgress();
  }

  function showProgress() {
    const count = judged();
    at("judged").textContent = `${count} judged`;
    at("progress").max = pairs.length;
    at("progress").value = count;
  }

  function goTo(position, told = "") {
    state.position = Math.min(Math.max(0, position), pairs.length - 1);
    keep();
    show();
    tell(told);
    at("place").focus({ preventScroll: true });
    at("pair").scrollIntoView({ block: "start" });
  }

  // --- what the reviewer does ---

  function change(fields) {
    const pair = pairs[state.position];
    const next = { ...mark(pair), ...fields };
    if (next.verdict === null && !next.comment) state.marks.delete(pair.pair);
    else state.marks.set(pair.pair, next);
    isSaved = false;
    keep();
  }

  function judge(verdict) {
    change({ verdict });
    const told = `Pair ${state.position + 1}: ${said[verdict]}. `;
    if (state.position + 1 < pairs.length) return goTo(state.position + 1, told);
    show();
    const open = pairs.length - judged();
    tell(told + (open ? `${open} still open: N goes to the next of them.` : "All judged: save, and send the file back."));
  }

  function nextOpen() {
    for (let step = 1; step <= pairs.length; step++) {
      const position = (state.position + step) % pairs.length;
      if (mark(pairs[position]).verdict === null) return goTo(position);
    }
    tell("All judged: save, and send the file back.");
  }

  function fileName() {
    const name = state.name.normalize("NFC").replace(/[^\p{L}\p{N}\p{M}]+/gu, "-").replace(/^-|-$/g, "");
    return `review-${sheet.run}-${sheet.language}-${name || "reviewer"}.json`;
  }

  function save() {
    for (const [field, missing] of [["name", "your name"], ["level", "how well you know the language"]]) {
      at(field).setAttribute("aria-invalid", String(!state[field].trim()));
      if (!state[field].trim()) {
        tell(`Not saved yet: please give ${missing}.`);
        at(field).focus();
        return;
      }
    }
    const { schema, kind, run, iteration, language, seed } = sheet;
    const verdicts = [...state.marks].map(([pair, { verdict, comment }]) => ({ pair, verdict, comment }));
    const file = {
      schema, kind, run, iteration, language, sheet: sheet.sheet, seed,
      reviewer: { name: state.name.trim(), level: state.level }, saved: new Date().toISOString(), verdicts,
    };
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([JSON.stringify(file, null, 1) + "\n"], { type: "application/json" }));
    link.download = fileName();
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
    isSaved = true;
    const count = judged();
    tell(`Saved as ${link.download}: ${count} of ${pairs.length} judged. ` +
      (count < pairs.length ? "You can go on now or later." : "Please send that file back. Thank you!"));
  }

  async function load(file) {
    let found;
    try {
      found = JSON.parse(await file.text());
      if (found.kind !== sheet.kind || found.schema !== sheet.schema) throw new Error("kind");
      if (found.sheet !== sheet.sheet) {
        tell(`Not loaded: ${file.name} is for another sheet (${found.run}, ${found.language}).`);
        return;
      }
      const marks = found.verdicts.map(({ pair, verdict, comment }) => {
        if (verdict !== null && !(verdict in said)) throw new Error("verdict");
        return [String(pair), { verdict, comment: String(comment) }];
      });
      const name = String(found.reviewer.name);
      const level = String(found.reviewer.level);
      Object.assign(state, { name, level, marks: new Map([...state.marks, ...marks]) });
    } catch {
      tell(`Not loaded: ${file.name} is no file saved by this page.`);
      return;
    }
    isSaved = false;
    showReviewer();
    keep();
    show();
    tell(`Loaded ${file.name}: ${judged()} of ${pairs.length} judged.`);
  }

  function showStorage() {
    at("no-storage").hidden = storage !== null;
  }

  function showReviewer() {
    at("name").value = state.name;
    at("level").value = state.level;
    at("shortcuts").checked = state.shortcuts;
  }

  // --- keys. By the letter where the layout is Latin, else by the key's place; digits by both ---

  const commands = {
    a: () => judge("A"), b: () => judge("B"), t: () => judge("tie"), u: () => judge("unsure"),
    1: () => judge("A"), 2: () => judge("B"), "=": () => judge("tie"), "?": () => judge("unsure"),
    n: nextOpen, s: save, c: () => at("comment").focus(),
  };

  function commandOf(event) {
    if (event.key === "ArrowLeft") return () => goTo(state.position - 1);
    if (event.key === "ArrowRight") return () => goTo(state.position + 1);
    if (!state.shortcuts || event.repeat) return undefined;
    const letter = event.key.toLowerCase();
    if (Object.hasOwn(commands, letter)) return commands[letter];
    const place = /^(?:Key([A-Z])|(?:Digit|Numpad)(\d))$/.exec(event.code);
    const isLatin = /^[\x20-\x7e]$/.test(letter);
    const name = place?.[2] ?? (isLatin ? "" : place?.[1].toLowerCase()) ?? "";
    return Object.hasOwn(commands, name) ? commands[name] : undefined;
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (event.target.closest?.("input, textarea, select")) {
      if (event.key === "Escape") at("place").focus();
      return;
    }
    const command = commandOf(event);
    if (!command) return;
    event.preventDefault();
    command();
  });

  for (const button of buttons) button.addEventListener("click", () => judge(button.dataset.verdict));
  at("previous").addEventListener("click", () => goTo(state.position - 1));
  at("next").addEventListener("click", () => goTo(state.position + 1));
  at("open").addEventListener("click", nextOpen);
  at("save").addEventListener("click", save);
  at("load").addEventListener("change", (event) => {
    const [file] = event.target.files;
    event.target.value = "";
    if (file) load(file);
  });
  at("comment").addEventListener("input", () => change({ comment: at("comment").value }));
  at("shortcuts").addEventListener("change", () => { state.shortcuts = at("shortcuts").checked; keep(); });
  for (const field of ["name", "level"]) {
    at(field).addEventListener("input", () => {
      state[field] = at(field).value;
      at(field).removeAttribute("aria-invalid");
      isSaved = false;
      keep();
    });
  }
  window.addEventListener("beforeunload", (event) => {
    if (storage === null && !isSaved) event.preventDefault();
  });

  // Another tab with this sheet; or this page before it was reloaded, whose last words a browser may deliver late.
  window.addEventListener("storage", (event) => {
    if (event.key === storageKey) resume();
  });

  // Reads and does not write: what is on its way must not be overwritten.
  function resume() {
    recall();
    showStorage();
    showReviewer();
    show();
  }

  resume();
  document.body.classList.add("ready");
})();
