// Pairs of methods, methods that stand out under the pointer, and closed parts that open for print.
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  all("figure.wins").forEach((figure) => {
    const [a, b] = all("select[data-pair]", figure);
    const update = () => {
      all(".pair", figure).forEach((pair) => {
        const { a: first, b: second } = pair.dataset;
        pair.hidden = !((first === a.value && second === b.value) || (first === b.value && second === a.value));
      });
    };
    [a, b].forEach((select) => select?.addEventListener("change", () => {
      if (a.value === b.value) {  // the other one becomes any other method
        const other = select === a ? b : a;
        other.selectedIndex = select.selectedIndex === 0 ? 1 : 0;
      }
      update();
    }));
  });

  all("section.table-section").forEach((section) => {
    const emphasise = (index) => {
      all("figure.picture svg [data-m]", section).forEach((one) => {
        one.classList.toggle("faded", index !== undefined && one.dataset.m !== index);
        one.classList.toggle("named", index !== undefined && one.dataset.m === index);
      });
    };
    all(".sortable tr[data-m]", section).forEach((row) => {
      row.addEventListener("pointerenter", () => emphasise(row.dataset.m));
      row.addEventListener("pointerleave", () => emphasise());
      row.addEventListener("focusin", () => emphasise(row.dataset.m));
      row.addEventListener("focusout", () => emphasise());
    });
    all("figure.picture svg g[data-m]", section).forEach((mark) => {
      mark.addEventListener("pointerenter", () => emphasise(mark.dataset.m));
      mark.addEventListener("pointerleave", () => emphasise());
    });
  });

  const opened = [];
  addEventListener("beforeprint", () => {
    all("details:not(.on-screen):not([open])").forEach((one) => { one.open = true; opened.push(one); });
  });
  addEventListener("afterprint", () => { opened.splice(0).forEach((one) => { one.open = false; }); });
})();
