"use strict";
(() => {
  const form = document.getElementById("filters");
  if (!form) return;
  const items = [...document.getElementById("list").children];
  // Each error of a sentence is "model.kind.type", by index; an empty choice fits all.
  const errors = items.map((item) => item.dataset.e.split(" ").map((key) => key.split(".")));
  const shown = document.getElementById("shown");
  const none = document.getElementById("none");
  const choice = (name) => form.elements[name] ? form.elements[name].value : "";

  function apply() {
    const wanted = [choice("model"), choice("kind"), choice("type")];
    const all = wanted.every((value) => value === "");
    let count = 0;
    items.forEach((item, index) => {
      const fits = all || errors[index].some((error) =>
        wanted.every((value, part) => value === "" || value === error[part]));
      item.hidden = !fits;
      count += fits ? 1 : 0;
    });
    shown.textContent = count === items.length
      ? `${count} sentences` : `${count} of ${items.length} sentences`;
    none.hidden = count > 0;
  }

  form.addEventListener("change", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  // The fields are empty only after the reset has run its course.
  form.addEventListener("reset", () => setTimeout(apply, 0));
  form.hidden = false;
  apply();
})();
