"use strict";
// Two configs of one (task, attempt), step by step. What models and commands said reaches the page as text alone.
(() => {
  const data = JSON.parse(document.getElementById("trials").textContent);
  const steps = document.getElementById("steps");
  const comparison = document.getElementById("comparison");
  const picks = Object.fromEntries(["task", "attempt", "left", "right"].map((id) => [id, document.getElementById(id)]));
  const jump = document.getElementById("jump");
  const byKey = new Map(data.trials.map((trial) => [key(trial.task, trial.attempt, trial.config), trial]));
  const tasks = data.tasks.filter((task) => data.trials.some((trial) => trial.task === task));

  function key(...parts) {
    return JSON.stringify(parts.map(String));
  }

  function make(tag, kind, text) {
    const made = document.createElement(tag);
    if (kind) made.className = kind;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function fill(select, values, wanted) {
    select.replaceChildren(...values.map((value) => {
      const option = make("option", "", value);
      option.value = value;
      return option;
    }));
    select.value = values.map(String).includes(String(wanted)) ? wanted : values[0];
  }

  function attemptsOf(task) {
    return [...new Set(data.trials.filter((trial) => trial.task === task).map((trial) => trial.attempt))].sort((a, b) => a - b);
  }

  // The first step whose reply or observation differs, or at which one side has ended; -1 where both are identical.
  function partingOf(left, right) {
    const most = Math.max(left.steps.length, right.steps.length);
    for (let at = 0; at < most; at += 1) {
      const [one, other] = [left.steps[at], right.steps[at]];
      if (!one || !other) return { at, why: `only ${one ? left.config : right.config} continues` };
      if (one.thought !== other.thought) return { at, why: "the thoughts differ" };
      if (one.reply !== other.reply) return { at, why: "the replies differ" };
      if (one.observation !== other.observation) return { at, why: "the replies match, the observations differ" };
    }
    return { at: -1, why: "" };
  }

  function common(one, other) {
    let length = 0;
    while (length < one.length && one[length] === other[length]) length += 1;
    const last = one.charCodeAt(length - 1);
    return last >= 0xd800 && last < 0xdc00 ? length - 1 : length; // never half of a surrogate pair
  }

  function text(kind, label, content, other) {
    const box = make("div");
    box.append(make("div", "name", label));
    const pre = make("pre", kind);
    pre.tabIndex = 0;
    if (other === undefined || other === content || !common(content, other)) pre.textContent = content;
    else {
      const shared = common(content, other);
      pre.append(content.slice(0, shared), make("mark", "", content.slice(shared)));
    }
    box.append(pre);
    return box;
  }

  function tags(step) {
    const row = make("div", "tags");
    const add = (label, kind) => row.append(make("span", kind, label));
    if (step.parse === "failed") add("parse_fail", "fault");
    if (step.parse === "repaired") add("repaired", "fault");
    if (step.no_cmd) add("no_cmd", "fault");
    if (step.done) add("says it is done", "fine");
    if (step.full) add("cut at the token limit", "fault");
    add(`${step.tokens} tokens`, "");
    return row;
  }

  function side(trial, at, other, parting) {
    const box = make("div", "side");
    box.append(make("p", "who", trial.config));
    const step = trial.steps[at];
    if (!step) {
      if (at === trial.steps.length) box.append(make("p", "note", ended(trial)));
      return box;
    }
    const against = parting && other ? other : undefined;
    if (step.instruction) box.append(text("observed", "next instruction", step.instruction));
    if (step.thought) box.append(text("thought", "thought", step.thought, against && against.thought));
    box.append(text("reply", "reply", step.reply, against && against.reply), tags(step));
    if (step.observation) box.append(text("observed", "observation", step.observation, against && against.observation));
    return box;
  }

  function ended(trial) {
    return `${trial.outcome} after ${trial.steps.length} steps (${trial.end})${trial.error ? `: ${trial.error}` : ""}`;
  }

  function opening(left, right) {
    const box = make("details");
    box.append(make("summary", "", "Prompt of both"));
    const alike = JSON.stringify(left.opening) === JSON.stringify(right.opening);
    if (!alike) box.firstChild.textContent = "Prompt of each (they differ)";
    for (const trial of alike ? [left] : [left, right]) {
      const part = make("div", "side");
      if (!alike) part.append(make("p", "who", trial.config));
      for (const [source, place] of trial.opening) part.append(text("observed", source, data.openings[place]));
      if (trial.examples) part.append(make("p", "note", `${trial.examples} messages of worked examples are not shown.`));
      box.append(part);
    }
    return box;
  }

  function row(left, right, at, parting) {
    const here = parting.at === at;
    const box = make("div", here ? "pair parting" : "pair");
    box.append(make("h4", "", here ? `Step ${at + 1}: they diverge here, ${parting.why}` : `Step ${at + 1}`));
    if (here) { box.id = "parting"; box.tabIndex = -1; }
    box.append(side(left, at, right.steps[at], here), side(right, at, left.steps[at], here));
    return box;
  }

  function missing(configs, task, attempt) {
    const gone = configs.filter((config) => !byKey.has(key(task, attempt, config)));
    return `${gone.join(" and ")}: no trajectory of attempt ${attempt} at ${task} in this page.`;
  }

  function show() {
    const [task, attempt, left, right] = [picks.task, picks.attempt, picks.left, picks.right].map((pick) => pick.value);
    const [one, other] = [left, right].map((config) => byKey.get(key(task, attempt, config)));
    jump.disabled = true;
    if (!one || !other) {
      comparison.textContent = missing([left, right], task, attempt);
      steps.replaceChildren();
      return;
    }
    const parting = partingOf(one, other);
    const where = parting.at < 0 ? "They are identical throughout" : `They diverge at step ${parting.at + 1}: ${parting.why}`;
    comparison.textContent = `${left}: ${ended(one)}. ${right}: ${ended(other)}. ${where}.`;
    jump.disabled = parting.at < 0;
    const most = Math.max(one.steps.length, other.steps.length);
    steps.replaceChildren(opening(one, other), ...Array.from({ length: most }, (_, at) => row(one, other, at, parting)));
  }

  function pickTask(task, attempt) {
    picks.task.value = task;
    fill(picks.attempt, attemptsOf(task), attempt);
  }

  // #trial/task/attempt/left/right, each part percent-encoded: what the cells of the matrix link to.
  function follow() {
    const [what, ...parts] = location.hash.slice(1).split("/");
    if (what !== "trial" || parts.length !== 4) return;
    let names;
    try { names = parts.map(decodeURIComponent); } catch { return; }
    const [task, attempt, left, right] = names;
    if (!tasks.includes(task) || ![left, right].every((config) => data.configs.includes(config))) return;
    pickTask(task, attempt);
    picks.left.value = left;
    picks.right.value = right;
    show();
    document.getElementById("trajectories").scrollIntoView();
  }

  function turn(by) {
    const at = (tasks.indexOf(picks.task.value) + by + tasks.length) % tasks.length;
    pickTask(tasks[at], picks.attempt.value);
    show();
  }

  fill(picks.task, tasks);
  fill(picks.left, data.configs);
  fill(picks.right, data.configs, data.configs[1]);
  pickTask(tasks[0]);
  picks.task.addEventListener("change", () => { pickTask(picks.task.value, picks.attempt.value); show(); });
  for (const name of ["attempt", "left", "right"]) picks[name].addEventListener("change", show);
  document.getElementById("before").addEventListener("click", () => turn(-1));
  document.getElementById("after").addEventListener("click", () => turn(1));
  jump.addEventListener("click", () => {
    const parting = document.getElementById("parting");
    parting.scrollIntoView();
    parting.focus({ preventScroll: true });
  });
  window.addEventListener("hashchange", follow);
  show();
  follow();
})();
