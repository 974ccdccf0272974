"use strict";
const table = document.getElementById("case-table");
if (table) {
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  const search = document.getElementById("search");
  const look = () => {
    const wanted = search.value.toLowerCase();
    let count = 0;
    for (const row of rows) {
      row.hidden = !row.textContent.toLowerCase().includes(wanted);
      if (!row.hidden) count += 1;
    }
    document.getElementById("shown").textContent = count + " of " + rows.length + " cases";
  };
  let last = -1, up = true;
  const sort = (column) => {
    up = column === last ? !up : true;
    last = column;
    const key = (row) => row.cells[column].dataset.sort ?? row.cells[column].textContent;
    const number = (row) => Number(row.cells[column].dataset.sort);
    const order = (a, b) => key(a).localeCompare(key(b), undefined, { numeric: true });
    body.replaceChildren(...rows.slice().sort((a, b) =>
      (isNaN(number(a)) || isNaN(number(b)) ? order(a, b) : number(a) - number(b)) * (up ? 1 : -1)));
  };
  Array.from(table.tHead.rows[0].cells).forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    button.addEventListener("click", () => sort(column));
    head.append(button);
  });
  search.addEventListener("input", look);
  look();
}

/* A link into a part that is folded opens it; what is printed is printed whole. */
const folded = Array.from(document.querySelectorAll("details"));
const reveal = () => {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  for (let at = target; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
  target.scrollIntoView();
};
for (const link of document.querySelectorAll("a[href^='#']")) link.addEventListener("click", () => setTimeout(reveal));
addEventListener("hashchange", reveal);
reveal();
let closed = [];
addEventListener("beforeprint", () => {
  closed = folded.filter((one) => !one.open);
  for (const one of closed) one.open = true;
});
addEventListener("afterprint", () => { for (const one of closed) one.open = false; });
const all = document.getElementById("all");
all.hidden = false;
all.addEventListener("click", () => {
  const open = all.textContent === "Open all";
  for (const one of document.querySelectorAll(".part")) one.open = open;
  all.textContent = open ? "Fold all" : "Open all";
});
