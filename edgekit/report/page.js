"use strict";
// What the page can do beyond reading: say what a mark is on hover, focus and touch, and save the report.
// Without it nothing is missing: every figure also stands in a table, and native tooltips say the same words.
(() => {
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  tip.setAttribute("aria-hidden", "true");  // a screen reader reads the mark's own label
  document.body.append(tip);

  for (const title of document.querySelectorAll("svg title")) {
    if (title.parentElement.tagName !== "svg") title.parentElement.dataset.tip = title.textContent;
    title.remove();  // the picture keeps its aria-label; two tooltips at once would be one too many
  }
  for (const cell of document.querySelectorAll(".map [title]")) {
    cell.dataset.tip = cell.title;
    cell.removeAttribute("title");
  }

  const show = (mark) => {
    tip.textContent = mark.dataset.tip;
    tip.hidden = false;
    const at = mark.getBoundingClientRect();
    const wide = document.documentElement.clientWidth;
    const left = Math.max(8, Math.min(at.left + at.width / 2 - tip.offsetWidth / 2, wide - tip.offsetWidth - 8));
    const above = at.top - tip.offsetHeight - 8;
    tip.style.left = `${left + scrollX}px`;
    tip.style.top = `${(above > 4 ? above : at.bottom + 8) + scrollY}px`;
  };
  const hide = () => { tip.hidden = true; };
  const follow = (event) => {
    if (!(event.target instanceof Element) || event.target === tip) return;
    const mark = event.target.closest("[data-tip]");
    mark ? show(mark) : hide();
  };
  document.addEventListener("pointerover", follow);  // a finger that lifts leaves the words where they are
  document.addEventListener("focusin", follow);
  document.addEventListener("focusout", hide);
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });

  for (const map of document.querySelectorAll(".map")) {  // one stop of the Tab key; arrows go from op to op
    const cells = [...map.querySelectorAll("[data-tip]")];
    let at = -1;
    const turn = { ArrowRight: () => at + 1, ArrowLeft: () => at - 1, Home: () => 0, End: () => cells.length - 1 };
    map.addEventListener("keydown", (event) => {
      if (!(event.key in turn)) return;
      event.preventDefault();
      cells[at]?.classList.remove("current");
      at = Math.max(0, Math.min(turn[event.key](), cells.length - 1));
      cells[at].classList.add("current");
      show(cells[at]);
    });
    map.addEventListener("blur", () => cells[at]?.classList.remove("current"));
  }

  const save = (name, type, text) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  };
  const packed = document.querySelector("a[data-unpack]");
  if (packed && "DecompressionStream" in window) {
    const unpack = () => {
      const bytes = Uint8Array.from(atob(packed.href.split(",")[1]), (letter) => letter.charCodeAt(0));
      return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
    };
    packed.addEventListener("click", async (event) => {
      event.preventDefault();
      save(packed.dataset.unpack, "application/json", await unpack());
    });
    const quoted = (value) => `"${String(value).replaceAll('"', '""')}"`;
    const calls = document.querySelector("button[data-calls]");
    if (calls) calls.hidden = false;
    calls?.addEventListener("click", async () => {
      const lines = ["target,variant,place,call,ns"];
      for (const target of JSON.parse(await unpack()).targets) {
        for (const variant of target.variants) {
          const { place, samples_ns: samples = [] } = variant.latency ?? {};
          samples.forEach((ns, call) => {
            lines.push([quoted(target.target), quoted(variant.name), place, call, ns].join(","));
          });
        }
      }
      save(calls.dataset.calls, "text/csv", `${lines.join("\n")}\n`);
    });
  }
})();
