// The four blocks of a tableau as buttons; course/tableau_editor.py decides what a press does.
function render({ model, el }) {
  // A div of its own: the widget's layout clears the grid properties of el.
  const grid = document.createElement("div");
  grid.className = "mmvae-tableau";
  el.append(grid);
  el.dataset.lmSuppressShortcuts = "true";
  const text = (parent, content, kind, row, column, span) => {
    const node = Object.assign(document.createElement("div"), { textContent: content });
    node.className = kind;
    node.style.gridRow = row;
    node.style.gridColumn = span ? `${column} / span ${span}` : column;
    parent.append(node);
  };
  let count = 0;
  const show = () => {
    const { cells, rows, sums, experts, references } = model.get("spec");
    const [part, row, column] = model.get("selected");
    const focused = document.activeElement?.dataset?.cell;
    const M = experts.length - 1, R = references.length;
    // Grid columns: row names | cond | gap | recon | gap, names of ref | kl and ref | the sum.
    const recon = 4 + M, kl = recon + M + 1, sum = kl + Math.max(R, 1) + 1, first = M + 5;
    grid.replaceChildren();
    grid.style.gridTemplateColumns = `max-content repeat(${M + 1}, 38px) 18px repeat(${M}, 38px) ` +
      `52px repeat(${Math.max(R, 1)}, 38px) 18px minmax(220px, max-content)`;
    text(grid, "cond", "head", first - 2, 2, M + 1);
    text(grid, "recon", "head", first - 2, recon, M);
    text(grid, "ref, one column a reference", "head ref", 1, kl, R + 2);
    text(grid, "kl", "head end", first - 1, kl - 1);
    experts.forEach((name, e) => {
      text(grid, name, "name", first - 1, 2 + e);
      if (e < M) text(grid, name, "name", first - 1, recon + e);
      text(grid, name, "side", 2 + e, kl - 1);
    });
    text(grid, "L =", "head sum", first - 1, sum);
    rows.forEach((name, k) => {
      text(grid, name, "side", first + k, 1);
      text(grid, (k ? "+ " : "") + sums[k], "sum", first + k, sum);
    });
    for (const cell of cells) {
      const button = document.createElement("button");
      button.textContent = cell.text;
      button.title = cell.spoken;
      button.setAttribute("aria-label", `${cell.spoken}: ${cell.text === "·" ? 0 : cell.text}`);
      button.dataset.cell = `${cell.part} ${cell.row} ${cell.column}`;
      button.style.background = cell.color;
      button.style.color = cell.ink;
      const chosen = cell.part === part && cell.row === row && cell.column === column;
      button.setAttribute("aria-pressed", chosen);
      button.style.gridRow = cell.part === "ref" ? 2 + cell.column : first + cell.row;
      button.style.gridColumn = { cond: 2, recon: recon, kl: kl, ref: kl }[cell.part] +
        (cell.part === "ref" ? cell.row : cell.column);
      button.onclick = () => {
        model.set("pressed", [cell.part, cell.row, cell.column, ++count]);
        model.save_changes();
      };
      grid.append(button);
    }
    if (focused) grid.querySelector(`[data-cell="${focused}"]`)?.focus();
  };
  model.on("change:spec change:selected", show);
  show();
  return () => model.off("change:spec change:selected", show);
}
export default { render };
