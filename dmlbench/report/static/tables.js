"use strict";
// Sorting, filtering, copying, and the intervals and seeds that a cell shows on hover, tap and focus.
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const hint = document.getElementById("hint");
  const status = document.getElementById("status");

  all("[data-needs-script]").forEach((one) => { one.hidden = false; });

  // --- sorting: descending, ascending, the order of the page ---
  const values = (row, column) => {
    const cell = row.cells[column];
    const number = cell.dataset.value === undefined ? NaN : Number(cell.dataset.value);
    return { number, text: cell.textContent.trim() };
  };
  const compare = (a, b) => {
    if (Number.isNaN(a.number) !== Number.isNaN(b.number)) return Number.isNaN(a.number) ? 1 : -1;
    return Number.isNaN(a.number) ? 0 : b.number - a.number;
  };
  const sort = (table, column, direction) => {
    for (const body of table.tBodies) {
      const rows = all("tr", body);
      rows.forEach((row, place) => { row.dataset.place ??= place; });
      const numeric = rows.some((row) => row.cells[column].dataset.value !== undefined);
      rows.sort((one, other) => {
        if (!direction) return one.dataset.place - other.dataset.place;
        const [a, b] = [values(one, column), values(other, column)];
        const missing = Number.isNaN(a.number) !== Number.isNaN(b.number);
        const order = numeric ? compare(a, b) : b.text.localeCompare(a.text);
        return (missing || direction > 0 ? order : -order) || one.dataset.place - other.dataset.place;
      });
      body.append(...rows);
    }
  };
  all("table.sortable").forEach((table) => {
    all("thead th", table).forEach((heading, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...heading.childNodes);
      heading.append(button);
      button.addEventListener("click", () => {
        const next = { descending: "ascending", ascending: "", "": "descending" }[heading.ariaSort || ""];
        all("thead th", table).forEach((other) => other.removeAttribute("aria-sort"));
        if (next) heading.ariaSort = next;
        sort(table, column, { descending: 1, ascending: -1, "": 0 }[next]);
      });
    });
  });

  // --- filtering: hides a method in the table and in every picture of the section ---
  all("[data-filter]").forEach((input) => {
    const section = input.closest("section");
    input.addEventListener("input", () => {
      const wanted = input.value.trim().toLowerCase();
      const rows = all(".sortable tr[data-m]", section);
      const shown = new Set();
      rows.forEach((row) => {
        if (row.cells[0].textContent.toLowerCase().includes(wanted)) shown.add(row.dataset.m);
      });
      all("[data-m]", section).forEach((one) => one.toggleAttribute("hidden", !shown.has(one.dataset.m)));
      status.textContent = `${shown.size} of ${rows.length} methods shown`;
    });
  });

  // --- copying ---
  const copy = async (text) => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {  // no clipboard for this page, such as without https
      const area = document.createElement("textarea");
      area.value = text;
      document.body.append(area);
      area.select();
      const done = document.execCommand("copy");
      area.remove();
      if (!done) throw new Error("the browser refused");
    }
  };
  all("button[data-copy]").forEach((button) => {
    const label = button.textContent;
    button.addEventListener("click", async () => {
      const source = button.closest("figure").querySelector(`[data-source="${button.dataset.copy}"]`);
      let message = "Copied";
      try {
        await copy(source.textContent);
      } catch {
        source.closest("details").open = true;
        message = "Not copied: select the text below";
      }
      button.textContent = status.textContent = message;
      setTimeout(() => { button.textContent = label; }, 2000);
    });
  });

  // --- hints of cells: pointer, tap, and arrow keys from cell to cell ---
  const show = (cell) => {
    hint.textContent = cell.dataset.hint.replaceAll("; ", "\n");
    hint.hidden = false;
    const box = cell.getBoundingClientRect();
    const left = Math.min(Math.max(box.left + box.width / 2 - hint.offsetWidth / 2, 8), innerWidth - hint.offsetWidth - 8);
    const above = box.top - hint.offsetHeight - 6;
    hint.style.left = `${left + scrollX}px`;
    hint.style.top = `${(above < 0 ? box.bottom + 6 : above) + scrollY}px`;
  };
  const hide = () => { hint.hidden = true; };
  const focusable = (table, cell) => {
    all("[data-hint]", table).forEach((one) => { one.tabIndex = one === cell ? 0 : -1; });
  };
  const neighbour = (cell, key) => {
    const row = cell.parentElement;
    if (key === "ArrowLeft") return cell.previousElementSibling;
    if (key === "ArrowRight") return cell.nextElementSibling;
    const rows = all("tbody tr:not([hidden])", row.closest("table"));
    return rows[rows.indexOf(row) + (key === "ArrowUp" ? -1 : 1)]?.cells[cell.cellIndex];
  };
  all("table.sortable").forEach((table) => {
    const cells = all("td[title]", table);
    cells.forEach((cell) => {
      cell.dataset.hint = cell.title;
      cell.removeAttribute("title");
      cell.setAttribute("aria-describedby", "hint");
    });
    if (cells.length) focusable(table, cells[0]);
    new MutationObserver(() => {  // a filter has hidden or shown rows; the cell that Tab reaches must be visible
      const visible = all("tr:not([hidden]) > [data-hint]", table);
      if (visible.length && !visible.some((one) => one.tabIndex === 0)) focusable(table, visible[0]);
    }).observe(table, { subtree: true, attributeFilter: ["hidden"] });
    table.addEventListener("pointerover", (event) => {
      const cell = event.target.closest("[data-hint]");
      if (cell) show(cell); else hide();
    });
    table.addEventListener("pointerleave", hide);
    table.addEventListener("focusin", (event) => {
      if (!event.target.dataset.hint) return;
      focusable(table, event.target);
      show(event.target);
    });
    table.addEventListener("focusout", hide);
    table.addEventListener("keydown", (event) => {
      if (event.key === "Escape") hide();
      if (!event.target.dataset?.hint || !event.key.startsWith("Arrow")) return;
      const next = neighbour(event.target, event.key);
      if (next?.dataset.hint) next.focus();
      event.preventDefault();
    });
  });
  addEventListener("scroll", hide, { passive: true });
})();
