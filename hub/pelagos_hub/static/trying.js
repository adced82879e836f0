// Trying a model: the countdown, live steps, dropped images, and filters of the answer. Without this script, forms do the work.

const at = (name, root = document) => root.querySelector(`[data-${name}]`);
const clockText = (seconds) => {
  const left = Math.max(0, Math.ceil(seconds));
  return `${String(Math.floor(left / 60)).padStart(2, "0")}:${String(left % 60).padStart(2, "0")}`;
};

// Countdowns of all trials of a person.
for (const each of document.querySelectorAll("[data-countdown]")) {
  const ends = performance.now() + 1000 * Number(each.dataset.countdown);
  const tick = () => { each.textContent = clockText((ends - performance.now()) / 1000); };
  setInterval(tick, 1000);
}

const trial = at("trial");
if (trial) follow(trial);

function follow(root) {
  const path = root.dataset.trial, told = at("status", root), clock = at("clock", root), bar = root.querySelector("progress");
  let phase = root.dataset.phase, warned = false, ends = null;

  function until(seconds) { ends = performance.now() + 1000 * seconds; }
  if (root.dataset.left !== "") until(Number(root.dataset.left));

  setInterval(() => {
    if (ends === null || phase !== "Open") return;
    const left = (ends - performance.now()) / 1000;
    clock.textContent = clockText(left);
    bar.value = Math.max(0, left);
    if (left <= 60 && left > 0 && !warned) { warned = true; told.textContent = "One minute left."; }
    if (left <= 0) over("Expired", "Time is up. The results stay; the model is closed.");
  }, 250);

  function over(now, words) {
    if (["Expired", "Stopped", "Refused"].includes(phase)) return;
    phase = now;
    for (const gone of [clock.parentElement, bar, at("drop", root), at("stop", root), at("count", root), at("own", root)]) if (gone) gone.hidden = true;
    at("again", root).hidden = false;
    told.textContent = words;
  }

  function show(status) {
    const rows = root.querySelectorAll(".steps li");
    status.steps.forEach((step, place) => {
      const how = { Done: "done", Current: "now", Waiting: "not yet", Failed: "did not happen" }[step.state];
      rows[place].dataset.state = step.state;
      rows[place].querySelector(".how").textContent = how;
    });
    if (status.phase === "Open" && phase !== "Open") return location.reload();
    if (status.secondsLeft !== null) until(status.secondsLeft);
    if (["Expired", "Stopped", "Stopping", "Refused"].includes(status.phase)) {
      over(status.phase, [status.phase === "Expired" ? "Time is up" : status.phase, status.message].filter(Boolean).join(": "));
    }
  }

  async function look() {
    try {
      const answer = await fetch(`${path}/status.json`, { headers: { Accept: "application/json" } });
      if (answer.ok) show(await answer.json());
      else if (answer.status === 404) over("Stopped", "This trial no longer exists.");
    } catch { /* The server is unreachable for a moment: the countdown continues. */ }
    if (!["Expired", "Stopped", "Refused"].includes(phase)) setTimeout(look, phase === "Open" ? 10000 : 1500);
  }
  look();

  const form = at("drop", root);
  if (form) sending(root, form);
  for (const answer of root.querySelectorAll("[data-answer]")) explore(answer);
}

function sending(root, form) {
  const chosen = form.querySelector("input[type=file]"), busy = at("busy", root), answers = at("answers", root);
  at("or", form).hidden = false;
  at("send", form).hidden = true;

  async function send(body, picture, name) {
    busy.textContent = "The model is processing it…";
    form.inert = true;
    try {
      const answer = await fetch(form.action, {
        method: "POST", body, headers: { "X-CSRF-Token": root.dataset.csrf, "X-Part": "answer", Accept: "application/json" },
      });
      if (!answer.ok) {
        const { error } = await answer.json();
        busy.textContent = `${error.summary}. ${error.advice}`;
        return;
      }
      // From our own server, which has escaped everything in the model's answer.
      const part = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("[data-answer]");
      at("picture", part).setAttribute("href", picture);
      answers.replaceChildren(part);
      explore(part, name);
      busy.textContent = "";
      part.querySelector("h2").focus();
    } catch {
      busy.textContent = "The hub did not answer. Try again.";
    } finally {
      form.inert = false;
    }
  }

  function take(file) {
    if (!file) return;
    const body = new FormData();
    body.append("image", file, file.name);
    send(body, URL.createObjectURL(file), file.name);
  }
  chosen.addEventListener("change", () => take(chosen.files[0]));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const button = event.submitter;
    if (button?.name !== "sample") return take(chosen.files[0]);
    const body = new FormData();
    body.append("sample", button.value);
    send(body, button.querySelector("img").src.replace("?small", ""), "sample");
  });
  for (const name of ["dragenter", "dragover"]) {
    form.addEventListener(name, (event) => { event.preventDefault(); form.classList.add("over"); });
  }
  for (const name of ["dragleave", "drop"]) form.addEventListener(name, () => form.classList.remove("over"));
  form.addEventListener("drop", (event) => { event.preventDefault(); take(event.dataTransfer.files[0]); });
}

function explore(answer, name = "answer") {
  const slider = at("slider", answer);
  if (slider) {
    const range = slider.querySelector("input"), output = slider.querySelector("output");
    const scored = answer.querySelectorAll("[data-score]"), rows = answer.querySelectorAll("tr[data-score]");
    slider.hidden = rows.length < 2;
    range.addEventListener("input", () => {
      const least = Number(range.value);
      // SVG elements have no property `hidden`.
      for (const each of scored) each.toggleAttribute("hidden", Number(each.dataset.score) < least);
      output.textContent = `${least.toFixed(2)}: ${answer.querySelectorAll("tr[data-score]:not([hidden])").length} of ${rows.length}`;
    });
  }
  at("downloads", answer).hidden = false;
  const text = at("json", answer).textContent;
  const makers = {
    json: () => new Blob([text], { type: "application/json" }),
    csv: () => {
      const cells = (row) => [...row.children].map((cell) => `"${cell.textContent.trim().replace(/^[=+\-@]/, "'$&").replaceAll('"', '""')}"`);
      const lines = [...answer.querySelectorAll("table.found tr")].filter((row) => !row.hidden).map((row) => cells(row).join(","));
      return new Blob([`${lines.join("\r\n")}\r\n`], { type: "text/csv" });
    },
  };
  for (const button of answer.querySelectorAll("[data-download]")) {
    button.addEventListener("click", () => {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(makers[button.dataset.download]());
      link.download = `${name.replace(/\.[^.]*$/, "")}.${button.dataset.download}`;
      link.click();
      URL.revokeObjectURL(link.href);
    });
  }
}
