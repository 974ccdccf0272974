"use strict";
const list = document.getElementById("slides");
const slides = Array.from(list.children);
const search = document.getElementById("search");
const sort = document.getElementById("sort");
const flagged = document.getElementById("flagged");
function look() {
  const wanted = search.value.toLowerCase();
  let count = 0;
  for (const slide of slides) {
    slide.hidden = !slide.textContent.toLowerCase().includes(wanted)
      || (flagged.checked && slide.dataset.flags === "0");
    if (!slide.hidden) count += 1;
  }
  document.getElementById("shown").textContent = count + " of " + slides.length + " slides";
}
function order() {
  const [key, direction] = sort.value.split(" ");
  const byName = (a, b) => a.dataset.slide.localeCompare(b.dataset.slide, undefined, { numeric: true });
  const sorted = slides.slice().sort((a, b) => (key === "slide" ? 0
    : (Number(a.dataset[key]) - Number(b.dataset[key])) * (direction === "up" ? 1 : -1)) || byName(a, b));
  list.replaceChildren(...sorted);
}
for (const image of document.images) {
  const tell = () => image.replaceWith("the preview can't be shown");
  image.addEventListener("error", tell);
}
search.addEventListener("input", look);
flagged.addEventListener("change", look);
sort.addEventListener("change", order);
if (location.hash) { sort.value = decodeURIComponent(location.hash.slice(1)); order(); }
look();
