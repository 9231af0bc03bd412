// Values at the pointer, or at the place chosen by the arrow keys. The page is whole without it.
"use strict";
(() => {
  const figures = JSON.parse(document.getElementById("data").textContent);

  const text = (value) => (value === null ? "not finite" : String(value));

  const nearest = (sorted, wanted) => {
    let low = 0;
    let high = sorted.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (sorted[middle] < wanted) low = middle + 1;
      else high = middle;
    }
    return low > 0 && wanted - sorted[low - 1] < sorted[low] - wanted ? low - 1 : low;
  };

  const watch = (holder) => {
    const figure = figures[holder.dataset.figure];
    const output = holder.parentElement.querySelector("output");
    const mark = document.createElement("div");
    mark.className = figure.rows ? "spot" : "cursor";
    holder.append(mark);
    const hint = output.textContent;
    const xs = figure.rows ? figure.steps : [...new Set(figure.lines.flatMap((l) => l.x))].sort((a, b) => a - b);
    let column = -1;
    let row = 0;

    const box = () => {
      const shown = [...holder.querySelectorAll("svg")].find((svg) => svg.clientWidth > 0 || svg.getBoundingClientRect().width > 0);
      const area = shown.getBoundingClientRect();
      const [left, top, right, bottom] = figure.boxes[shown.classList.contains("desk") ? 1 : 0];
      return { left: left * area.width, top: top * area.height, width: (right - left) * area.width, height: (bottom - top) * area.height };
    };

    const place = (x, area) => area.left + ((x - figure.ends[0]) / (figure.ends[1] - figure.ends[0] || 1)) * area.width;

    const show = () => {
      const area = box();
      const x = xs[column];
      mark.style.display = "block";
      mark.style.left = `${Math.min(Math.max(place(x, area), area.left), area.left + area.width)}px`;
      mark.style.top = `${area.top}px`;
      mark.style.height = `${area.height}px`;
      if (figure.rows) {
        const tall = area.height / figure.rows.length;
        mark.style.top = `${area.top + row * tall}px`;
        mark.style.height = `${tall}px`;
        mark.style.width = "8px";
        const value = figure.values[row][column];
        output.textContent = `step ${x} | ${figure.rows[row]}: ${value === null ? "none" : value}`;
        return;
      }
      const said = figure.lines.map((line) => {
        const i = nearest(line.x, x);
        return Math.abs(line.x[i] - x) <= figure.reach ? `${line.label} ${text(line.y[i])}` : "";
      });
      output.textContent = `${figure.axis} ${x} | ${said.filter(Boolean).join(" | ")}`;
    };

    const hide = () => {
      column = -1;
      mark.style.display = "none";
      output.textContent = hint;
    };

    holder.addEventListener("pointermove", (event) => {
      const area = box();
      const at = holder.getBoundingClientRect();
      const share = (event.clientX - at.left - area.left) / area.width;
      if (share < -0.05 || share > 1.05) return;
      column = nearest(xs, figure.ends[0] + share * (figure.ends[1] - figure.ends[0]));
      if (figure.rows) {
        const down = Math.floor(((event.clientY - at.top - area.top) / area.height) * figure.rows.length);
        row = Math.min(Math.max(down, 0), figure.rows.length - 1);
      }
      show();
    });
    holder.addEventListener("pointerleave", () => { if (document.activeElement !== holder) hide(); });
    holder.addEventListener("blur", hide);
    holder.addEventListener("keydown", (event) => {
      const far = event.shiftKey ? 10 : 1;
      const moves = { ArrowLeft: column - far, ArrowRight: column + far, Home: 0, End: xs.length - 1 };
      const rows = figure.rows ? { ArrowUp: row - far, ArrowDown: row + far } : {};
      if (event.key === "Escape") { hide(); return; }
      if (event.key in moves) column = moves[event.key];
      else if (event.key in rows) row = Math.min(Math.max(rows[event.key], 0), figure.rows.length - 1);
      else return;
      event.preventDefault();
      column = Math.min(Math.max(column, 0), xs.length - 1);
      show();
    });
  };

  document.querySelectorAll(".drawing[data-figure]").forEach(watch);
})();
