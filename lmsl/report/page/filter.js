"use strict";
(() => {
  const form = document.getElementById("filters");
  if (!form) return;
  const STEP = 40;
  const items = [...document.getElementById("list").children];
  // Each error of a sentence is "model.kind.type", by index; an empty choice fits all.
  const errors = items.map((item) => item.dataset.e.split(" ").map((key) => key.split(".")));
  const shown = document.getElementById("shown");
  const none = document.getElementById("none");
  const more = document.getElementById("more");
  const choice = (name) => (form.elements[name] ? form.elements[name].value : "");
  let limit = STEP;

  function fitting() {
    const wanted = [choice("model"), choice("kind"), choice("type")];
    if (wanted.every((value) => value === "")) return items;
    const fits = (error) => wanted.every((value, part) => value === "" || value === error[part]);
    return items.filter((_, index) => errors[index].some(fits));
  }

  function show() {
    const found = fitting();
    const visible = new Set(found.slice(0, limit));
    items.forEach((item) => { item.hidden = !visible.has(item); });
    const rest = found.length - visible.size;
    const total = found.length < items.length ? ` of ${items.length}` : "";
    const cut = rest > 0 ? `, the first ${visible.size} shown` : "";
    shown.textContent = `${found.length}${total} sentences${cut}`;
    none.hidden = found.length > 0;
    more.hidden = rest === 0;
    more.textContent = `Show ${Math.min(rest, STEP)} more`;
  }

  function restart() {
    limit = STEP;
    show();
  }

  form.addEventListener("change", restart);
  form.addEventListener("submit", (event) => event.preventDefault());
  // The fields are empty only after the reset has run its course.
  form.addEventListener("reset", () => setTimeout(restart, 0));
  more.addEventListener("click", () => {
    const next = fitting()[limit];
    limit += STEP;
    show();
    // The keyboard goes on where the new sentences begin.
    if (next) {
      next.tabIndex = -1;
      next.focus({ preventScroll: true });
    }
  });
  form.hidden = false;
  show();
})();
