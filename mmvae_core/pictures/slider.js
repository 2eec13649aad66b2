function render({ model, el }) {
  // JupyterLab moves between cells on arrow keys; here they belong to the slider.
  el.dataset.lmSuppressShortcuts = "true";
  el.classList.add("mmvae-slider");
  const label = document.createElement("label");
  const input = Object.assign(document.createElement("input"), { type: "range", step: "any" });
  const number = document.createElement("output");
  number.setAttribute("aria-live", "off");   // the input has said it
  label.append(input);
  label.prepend(document.createElement("span"));
  el.append(label, number);

  const grid = value => {           // the nearest value that the slider can be moved to
    const [low, high, step] = ["min", "max", "step"].map(k => model.get(k));
    const steps = Math.round((value - low) / step);
    return Math.min(high, Math.max(low, Number((low + steps * step).toFixed(10))));
  };
  const show = () => {
    const value = model.get("value");
    input.min = model.get("min");
    input.max = model.get("max");
    if (Number(input.value) !== value) input.value = value;
    number.textContent = value.toFixed(model.get("decimals")).replace("-", "\u2212");
    label.firstChild.textContent = model.get("label");
    input.setAttribute("aria-label", model.get("spoken") || model.get("label"));
    input.setAttribute("aria-valuetext", value.toFixed(model.get("decimals")));
    input.title = model.get("spoken");
    const share = (value - model.get("min")) / (model.get("max") - model.get("min"));
    el.style.setProperty("--share", `${100 * share}%`);
    el.style.setProperty("--accent", model.get("color"));
  };
  const move = value => {
    model.set("value", grid(value));
    model.save_changes();
    show();
  };
  const keys = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1,
                 PageUp: 10, PageDown: -10, Home: -Infinity, End: Infinity };
  input.addEventListener("input", () => move(Number(input.value)));
  input.addEventListener("keydown", event => {
    const steps = keys[event.key];
    if (steps === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    if (!Number.isFinite(steps)) return move(model.get(steps < 0 ? "min" : "max"));
    move(model.get("value") + steps * model.get("step"));
  });
  model.on("change", show);
  show();
  return () => model.off("change", show);
}
export default { render };
