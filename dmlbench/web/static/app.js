"use strict";
// Everything works without this script; it adds drag and drop, paste, keys and live charts.

const token = document.querySelector('meta[name="csrf"]').content;
const messages = document.getElementById("message");
const MAX_BYTES = 20 * 2 ** 20;

function say(text) { messages.textContent = text; }

async function send(address, body) {
  const response = await fetch(address, {
    method: "POST", body, headers: { "X-CSRF-Token": token, "X-Requested-With": "fetch" },
  });
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(answer.error || "The server does not answer; try again.");
  return answer;
}

for (const one of document.querySelectorAll("[data-submit]")) {
  one.addEventListener("change", () => {
    if (one.name === "dataset") {
      // A model and a query belong to a data set; an upload does not.
      for (const name of ["model", "query", "from", "class", "metric"]) {
        for (const field of one.form.querySelectorAll(`[name="${name}"]`)) field.disabled = true;
      }
    }
    one.form.requestSubmit();
  });
}

function prepareUpload(form) {
  const input = form.querySelector("input[type=file]");
  async function upload(file) {
    if (!file.type.startsWith("image/")) return say("This is not an image.");
    if (file.size > MAX_BYTES) return say("The file is too large; at most 20 MiB are accepted.");
    say("Uploading and searching …");
    form.classList.add("busy");
    const body = new FormData(form);
    body.set("file", file, "image");
    try {
      location.assign((await send(form.action, body)).address);
    } catch (error) {
      say(error.message);
    }
    form.classList.remove("busy");
  }
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (input.files.length) upload(input.files[0]);
  });
  input.addEventListener("change", () => { if (input.files.length) upload(input.files[0]); });
  document.addEventListener("paste", (event) => {
    const file = [...event.clipboardData.files].find((one) => one.type.startsWith("image/"));
    if (file) upload(file);
  });
  for (const name of ["dragover", "dragenter"]) {
    form.addEventListener(name, (event) => { event.preventDefault(); form.classList.add("over"); });
  }
  form.addEventListener("dragleave", () => form.classList.remove("over"));
  form.addEventListener("drop", (event) => {
    event.preventDefault();
    form.classList.remove("over");
    if (event.dataTransfer.files.length) upload(event.dataTransfer.files[0]);
  });
}

function prepareRating(list) {
  const items = [...list.querySelectorAll("[data-item]")];
  const pending = new Map(); // item to the promise of its last rating
  const unsaved = () => items.filter((item) => pending.has(item) || item.classList.contains("failed")).length;
  async function store(item, score, before) {
    await before;
    item.classList.remove("failed");
    item.classList.add("saving");
    const body = new FormData(item);
    body.set("score", score);
    try {
      await send(item.action, body);
      for (const button of item.querySelectorAll("button")) {
        button.setAttribute("aria-pressed", String(button.value === String(score)));
      }
      say("");
    } catch (error) {
      item.classList.add("failed");
      say(`${error.message} Rate this image again.`);
    }
  }
  function rate(item, score) {
    // One after the other, or a slow first rating of an image would replace its second one.
    const saving = store(item, score, pending.get(item)).then(() => {
      if (pending.get(item) !== saving) return;
      pending.delete(item);
      item.classList.remove("saving");
    });
    pending.set(item, saving);
  }
  // A page that is left while ratings are on their way loses them.
  document.addEventListener("click", async (event) => {
    const link = event.target.closest("a[href]");
    if (!link || !pending.size || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    say(`Saving ${unsaved()} ratings …`);
    while (pending.size) await Promise.all(pending.values());
    if (unsaved()) return say(`${unsaved()} ratings are not saved; rate the marked images again.`);
    location.assign(link.href);
  });
  window.addEventListener("beforeunload", (event) => { if (unsaved()) event.preventDefault(); });
  const move = (from, step) => items[from + step] && items[from + step].focus();
  items.forEach((item, index) => {
    item.addEventListener("submit", (event) => {
      event.preventDefault();
      rate(item, event.submitter.value);
    });
    item.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (/^[1-5]$/.test(event.key)) {
        event.preventDefault();
        rate(item, event.key);
        move(index, 1);
      } else if (event.key === "ArrowRight" || event.key === "ArrowDown") {
        event.preventDefault();
        move(index, 1);
      } else if (event.key === "ArrowLeft" || event.key === "ArrowUp") {
        event.preventDefault();
        move(index, -1);
      } else if (event.key === "Enter" && event.target === item) {
        event.preventDefault();
        document.querySelector("[data-next]").click();
      }
    });
  });
  const first = items.find((item) => !item.querySelector('[aria-pressed="true"]')) || items[0];
  if (first) first.focus({ preventScroll: true });
}

function keepLive(part) {
  setInterval(async () => {
    if (document.hidden || part.contains(document.activeElement)) return;
    try {
      const response = await fetch(part.dataset.live, { headers: { "X-Requested-With": "fetch" } });
      // Our own server escapes everything in it, and the policy of the page lets no script of it run.
      if (response.ok) part.innerHTML = (await response.json()).html;
    } catch (error) { /* the server is away; the next attempt may reach it */ }
  }, 3000);
}

document.querySelectorAll("[data-upload]").forEach(prepareUpload);
document.querySelectorAll("[data-rate]").forEach(prepareRating);
document.querySelectorAll("[data-live]").forEach(keepLive);
