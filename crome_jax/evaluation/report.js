"use strict";
// The counterfactual pairs are all in the page; this shows one at a time and filters them.
(() => {
  const browser = document.getElementById("browser");
  if (!browser) return;
  const pairs = [...browser.querySelectorAll(".pair")];
  const filters = [...browser.querySelectorAll("select")];
  const [previous, next] = browser.querySelectorAll("button");
  const place = browser.querySelector("output");
  const empty = browser.querySelector(".empty");
  let shown = pairs;
  let at = 0;

  const show = () => {
    pairs.forEach((pair) => { pair.hidden = pair !== shown[at]; });
    place.textContent = shown.length ? `${at + 1} of ${shown.length}` : "0 of 0";
    previous.disabled = at === 0;
    next.disabled = at >= shown.length - 1;
    empty.hidden = shown.length > 0;
  };
  const step = (by) => {
    at = Math.min(Math.max(at + by, 0), Math.max(shown.length - 1, 0));
    show();
  };
  const filter = () => {
    shown = pairs.filter((pair) => filters.every(
      (select) => !select.value || pair.dataset[select.name].split("\n").includes(select.value)));
    at = 0;
    show();
  };

  filters.forEach((select) => select.addEventListener("change", filter));
  previous.addEventListener("click", () => step(-1));
  next.addEventListener("click", () => step(1));
  browser.addEventListener("keydown", (event) => {
    if (event.target.tagName === "SELECT" || event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key === "ArrowLeft") step(-1);
    if (event.key === "ArrowRight") step(1);
  });
  browser.querySelector(".controls").hidden = false;
  filter();
})();
