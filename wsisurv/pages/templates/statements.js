"use strict";
const list = document.getElementById("reports");
const reports = Array.from(list.children);
const shown = document.getElementById("shown");
function look() {
  const wanted = document.getElementById("search").value.toLowerCase();
  let count = 0;
  for (const report of reports) {
    report.hidden = wanted !== "" && !report.textContent.toLowerCase().includes(wanted);
    if (!report.hidden) count += 1;
  }
  shown.textContent = count + " of " + reports.length + " reports";
}
function order() {
  const key = document.getElementById("sort").value;
  const sorted = reports.slice().sort((a, b) => key === "case"
    ? a.dataset.case.localeCompare(b.dataset.case, undefined, { numeric: true })
    : Number(b.dataset[key]) - Number(a.dataset[key]));
  list.replaceChildren(...sorted);
}
function openAll(open) { for (const report of reports) if (!report.hidden) report.open = open; }
document.getElementById("search").addEventListener("input", look);
document.getElementById("sort").addEventListener("change", order);
document.getElementById("open").addEventListener("click", () => openAll(true));
document.getElementById("close").addEventListener("click", () => openAll(false));
look();
