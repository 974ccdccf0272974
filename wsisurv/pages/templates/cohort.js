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
