// Filters of a page of results, and the search.
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const status = document.getElementById("status");

  // --- filters: hide methods in tables and pictures, and tables without methods ---
  const filters = document.querySelector(".filters");
  const wanted = () => Object.fromEntries(all("[data-by]", filters).map((one) => [one.dataset.by, one.value.trim()]));
  const apply = () => {
    const { text = "", trunk = "", frozen = "", tier = "", seeds = "" } = wanted();
    let [shown, total] = [0, 0];
    all(".table-section").forEach((section) => {
      const fits = (!trunk || section.dataset.trunk === trunk) && (!frozen || section.dataset.frozen === frozen);
      const kept = new Set();
      const rows = all("tr[data-m]", section);
      rows.forEach((row) => {
        const named = row.querySelector("th a").textContent.toLowerCase().includes(text.toLowerCase());
        if (fits && named && Number(row.dataset.tier) >= Number(tier) && Number(row.dataset.seeds) >= Number(seeds)) kept.add(row.dataset.m);
      });
      all("[data-m]", section).forEach((one) => one.toggleAttribute("hidden", !kept.has(one.dataset.m)));
      section.hidden = rows.length > 0 && !kept.size;
      shown += kept.size;
      total += rows.length;
    });
    document.querySelector("p.empty").hidden = shown > 0;
    status.textContent = `${shown} of ${total} methods shown`;
  };
  const remember = () => {
    const chosen = Object.entries(wanted()).filter(([, value]) => value);
    history.replaceState(null, "", chosen.length ? `#${new URLSearchParams(chosen)}` : location.pathname);
  };
  if (filters) {
    const restore = new URLSearchParams(location.hash.includes("=") ? location.hash.slice(1) : "");
    all("[data-by]", filters).forEach((one) => {
      one.value = restore.get(one.dataset.by) ?? "";
      if (one.selectedIndex === -1) one.value = "";
      one.addEventListener("input", () => { apply(); remember(); });
    });
    filters.querySelector("[type=reset]").addEventListener("click", () => {
      all("[data-by]", filters).forEach((one) => { one.value = ""; });
      apply();
      remember();
    });
    if (restore.size) apply();
  }

  // --- search: every word must occur in the title or the further words of a target ---
  const list = document.querySelector("[data-found]");
  if (!list) return;
  const LIMIT = 100;
  const order = ["data set", "method", "result", "entry", "run", "paper"];
  const targets = (window.targets ?? []).map(([kind, title, words, page]) => ({ kind, title, words: `${title} ${words}`.toLowerCase(), page }));
  const search = (query) => {
    const terms = query.toLowerCase().split(/\s+/).filter(Boolean);
    const found = terms.length ? targets.filter((one) => terms.every((term) => one.words.includes(term))) : [];
    found.sort((a, b) => order.indexOf(a.kind) - order.indexOf(b.kind));
    list.replaceChildren(...found.slice(0, LIMIT).map((one) => {
      const item = document.createElement("li");
      const kind = Object.assign(document.createElement("span"), { className: "kind", textContent: one.kind });
      item.append(kind, Object.assign(document.createElement("a"), { href: one.page, textContent: one.title }));
      return item;
    }));
    const more = found.length > LIMIT ? `; the first ${LIMIT} are shown` : "";
    const count = document.querySelector("[data-count]");
    count.textContent = terms.length ? `${found.length} found${more}` : "Type words that a data set, method, entry or paper must contain.";
    status.textContent = count.textContent;
  };
  const input = document.getElementById("search");
  input.value = new URLSearchParams(location.search).get("q") ?? "";
  input.addEventListener("input", () => search(input.value));
  search(input.value);
})();
