// Paints a Picture as SVG: panels with axes, layers, labels; words, a table. At most once a frame.
const SVG = "http://www.w3.org/2000/svg";
const NARROW = 640;               // pixels of width below which panels stand below each other
const TITLE = 15, LINE = 18;      // pixels: the type of a title, and from line to line
const BOLD = 1.06;                // width of a bold letter, by that of a plain one
const AIR = 4;                    // pixels between a point and a text beside it

const node = (parent, tag, attributes = {}) => {
  const made = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  parent.append(made);
  return made;
};
const round = pixels => Math.round(pixels * 100) / 100;

// One buffer holds the numbers of all layers that came: take each layer's out of it.
function unpack(layers, buffer) {
  const view = new DataView(buffer.buffer ?? buffer, buffer.byteOffset ?? 0, buffer.byteLength);
  let at = 0;
  const take = count => Float64Array.from({ length: count }, () => view.getFloat64(8 * at++, true));
  for (const layer of Object.values(layers)) [layer.x, layer.y] = [take(layer.n), take(layer.n)];
}

// What all views of a widget paint: {scene, version of every part}.
function storeOf(model) {
  const store = { scene: null, stamp: 0, of: {}, views: new Set() };
  const whole = () => merge(store, model.get("scene"), model.get("scene").numbers);
  whole();
  model.on("change:scene", whole);   // the connection to the kernel was lost, and messages with it
  model.on("msg:custom", (news, buffers) => merge(store, news, buffers[0]));
  return store;
}

function merge(store, news, buffer) {
  unpack(news.layers, buffer);
  if (news.whole) [store.scene, store.of] = [structuredClone({ ...news, numbers: null }), {}];
  const stamp = (store.stamp += 1), scene = store.scene;
  for (const kind of ["whole", "rooms"]) if (news[kind]) store[kind] = stamp;
  for (const kind of ["panels", "layers", "labels"])
    for (const [name, value] of Object.entries(news[kind])) {
      scene[kind][name] = kind === "layers" ? { ...scene[kind][name], ...value } : value;
      store.of[`${kind} ${name}`] = stamp;
    }
  for (const key of ["name", "alt", "words", "table", "rooms"])
    if (news[key] !== undefined) scene[key] = news[key];
  for (const view of store.views) view.ask();
}

// The lines of a text, each of at most so many letters where no word is longer.
const wrapped = (text, most) =>
  text.match(new RegExp(`.{1,${Math.floor(most)}}(\\s+|$)|\\S+\\s*`, "g")) ?? [""];

// Where a panel lies in the view: as in the picture, or all below each other where it is narrow.
function layout(scene, width) {
  const boxes = {}, panels = Object.entries(scene.panels);
  if (width >= NARROW) {
    for (const [name, { box: [left, right, bottom, top] }] of panels)
      boxes[name] = { x: left * scene.width, w: (right - left) * scene.width,
                      y: (1 - top) * scene.height, h: (top - bottom) * scene.height };
    return { boxes, width: scene.width, height: scene.height, letter: scene.letter };
  }
  let y = 0;
  for (const [host, panel] of panels.filter(([name]) => scene.rooms[name].host === name)) {
    const { before, after, below } = scene.rooms[host];
    const members = panels.filter(([name]) => scene.rooms[name].host === host);
    const edge = i => members.map(([, { box }]) => box[i]);
    const [left, right] = [Math.min(...edge(0)), Math.max(...edge(1))];
    const [bottom, top] = [Math.min(...edge(2)), Math.max(...edge(3))];
    const full = (right - left) * scene.width;
    const across = Math.min(1, (width - before - after) / full), up = Math.max(across, 0.75);
    const letter = TITLE * BOLD * scene.letter, fits = panel.title.length * letter < width - before - 4;
    const title = fits ? { lines: [panel.title], left: before }
      : { lines: wrapped(panel.title, (width - 8) / letter), left: 4 };
    y += panel.title ? 10 + LINE * title.lines.length : 10;
    for (const [name, { box }] of members)
      boxes[name] = { x: before + (box[0] - left) * scene.width * across,
                      w: (box[1] - box[0]) * scene.width * across,
                      y: y + (top - box[3]) * scene.height * up,
                      h: (box[3] - box[2]) * scene.height * up };
    Object.assign(boxes[host], title);
    y += (top - bottom) * scene.height * up + below;
  }
  return { boxes, width, height: y + 4, letter: scene.letter, narrow: true };
}

const fraction = (panel, axis, value) => {
  const [low, high] = axis ? panel.up : panel.across, log = panel.log.includes("xy"[axis]);
  if (!log) return (value - low) / (high - low);
  return Math.log(value / low) / Math.log(high / low);
};
const placer = (panel, box) => [
  value => box.x + fraction(panel, 0, value) * box.w,
  value => box.y + (1 - fraction(panel, 1, value)) * box.h,
];

function line(layer, px, py, close) {
  let path = "", open = false;
  for (let i = 0; i < layer.n; i++) {
    const x = px(layer.x[i]), y = py(layer.y[i]);
    if (!Number.isFinite(x) || !Number.isFinite(y)) {
      if (open && close) path += "Z";
      open = false;
      continue;
    }
    path += `${open ? "L" : "M"}${round(x)},${round(y)}`;
    open = true;
  }
  return path + (open && close ? "Z" : "");
}

function area(layer, px, py) {
  const base = round(py(layer.base));
  return line(layer, px, py, false).split("M").slice(1).map(piece => {
    const points = piece.split("L"), x = point => point.split(",")[0];
    return `M${x(points[0])},${base}L${piece}L${x(points[points.length - 1])},${base}Z`;
  }).join("");
}

function paintPanel(group, panel, box, { width, letter }) {
  group.replaceChildren();
  const [px, py] = placer(panel, box), base = box.y + box.h;
  const text = (x, y, words, attributes) =>
    Object.assign(node(group, "text", { x, y, ...attributes }), { textContent: words });
  const stroke = { class: "axis" };
  if (panel.axes.includes("x")) node(group, "path", { ...stroke, d: `M${box.x},${base}h${box.w}` });
  if (panel.axes.includes("y")) node(group, "path", { ...stroke, d: `M${box.x},${box.y}v${box.h}` });
  const [across, up] = panel.marks, room = box.w / Math.max(1, across.length);
  const longest = Math.max(0, ...across.map(([, words]) => words.length * 7 + 6));
  const every = Math.max(1, Math.ceil(longest / room));   // where it is narrow, not each has a text
  across.forEach(([at, words], i) => {
    node(group, "path", { ...stroke, d: `M${round(px(at))},${base}v4` });
    if (i % every === 0)
      text(round(px(at)), base + 16, words, { class: "tick", "text-anchor": "middle" });
  });
  for (const [at, words] of up) {
    node(group, "path", { ...stroke, d: `M${box.x},${round(py(at))}h-4` });
    text(box.x - 7, round(py(at)) + 4, words, { class: "tick", "text-anchor": "end" });
  }
  const { lines = [panel.title], left = box.x } = box, long = Math.max(1, ...lines.map(l => l.length));
  const size = Math.min(TITLE, (width - left - 4) / (BOLD * letter * long));
  const title = text(left, 0, "", { class: "title", style: `font-size:${size}px` });
  lines.forEach((words, i) => Object.assign(
    node(title, "tspan", { x: left, y: box.y - 8 - LINE * (lines.length - 1 - i) }),
    { textContent: words }));
  text(box.x + box.w / 2, base + 33, panel.xlabel, { "text-anchor": "middle" });
  const [x, y] = [box.x - (up.length ? 12 + 7 * Math.max(...up.map(([, t]) => t.length)) : 10),
                  box.y + box.h / 2];
  text(x, y, panel.ylabel, { "text-anchor": "middle", transform: `rotate(-90 ${x} ${y})` });
}

function paintLayer(group, layer, panel, box, clip) {
  group.replaceChildren();
  group.removeAttribute("clip-path");
  const [px, py] = placer(panel, box);
  if (layer.hover) node(group, "title").textContent = layer.hover;
  if (layer.image) {
    const [x, y] = [px(layer.x[0]), py(layer.y[layer.n - 1])];
    node(group, "image", { href: layer.image, x, y, width: px(layer.x[layer.n - 1]) - x,
      height: py(layer.y[0]) - y, preserveAspectRatio: "none", style: "image-rendering:pixelated" });
    return;
  }
  if (layer.marker) {
    for (let i = 0; i < layer.n; i++) {
      const [x, y] = [px(layer.x[i]), py(layer.y[i])], slack = 0.01;
      if (!(x >= box.x - slack && x <= box.x + box.w + slack &&
            y >= box.y - slack && y <= box.y + box.h + slack)) continue;
      node(group, "path", { d: layer.symbol, class: layer.open ? "open" : "mark",
        transform: `translate(${round(x)} ${round(y)}) scale(${layer.size} ${-layer.size})`,
        fill: layer.color, stroke: layer.open ? layer.color : "white", opacity: layer.opacity });
    }
    return;
  }
  group.setAttribute("clip-path", `url(#${clip})`);
  if (layer.fill)
    node(group, "path", { d: layer.closed ? line(layer, px, py, true) : area(layer, px, py),
                          fill: layer.color, opacity: layer.fill });
  if (layer.width)
    node(group, "path", { d: line(layer, px, py, layer.closed), fill: "none", stroke: layer.color,
      "stroke-width": layer.width, "stroke-dasharray": layer.pattern, opacity: layer.opacity,
      "stroke-linejoin": "round" });
}

// Where it is narrow, a label that would leave the view is moved into it, and shrunk if it must.
function paintLabels(group, labels, panel, box, place) {
  group.replaceChildren();
  const [px, py] = placer(panel, box);
  for (const { x, y, text, color, anchor, shift, size, bold, halo } of labels) {
    const drop = [-0.2, 0.34, 0.8][Math.round(2 * anchor[1])], made = node(group, "text", {
      fill: color, "text-anchor": ["start", "middle", "end"][Math.round(2 * anchor[0])],
      class: "label", style: `font-weight:${bold ? 700 : 400};stroke-width:${3 * halo}px` });
    const write = (at, font) => {
      made.setAttribute("x", round(at));
      made.setAttribute("y", round(py(y) - shift[1] + drop * font));   // of the base line
      made.style.fontSize = `${font}px`;
    };
    const at = px(x) + shift[0] + AIR * (1 - 2 * anchor[0]);
    made.textContent = text;
    write(at, size);
    if (!place.narrow) continue;
    const full = made.getComputedTextLength(), part = Math.min(1, (place.width - 8) / full);
    const wide = part * full, left = at - anchor[0] * wide;
    write(at + Math.max(0, 4 - left) - Math.max(0, left + wide - place.width + 4), part * size);
  }
}

function render(store, el) {
  const id = `mmvae-${Math.random().toString(36).slice(2)}`;   // one of its own
  el.classList.add("mmvae-picture");
  const svg = node(el, "svg", { role: "img", "aria-labelledby": `${id}-name ${id}-alt` });
  const words = document.createElement("p");
  words.setAttribute("aria-live", "polite");
  const table = Object.assign(document.createElement("div"), { className: "numbers" });
  el.append(words, table);
  let painted = -1, asked = 0, groups = null, place = null, size = 0;

  const build = scene => {
    svg.replaceChildren();
    node(svg, "title", { id: `${id}-name` });
    node(svg, "desc", { id: `${id}-alt` });
    place = layout(scene, size);
    svg.setAttribute("viewBox", `0 0 ${place.width} ${place.height}`);
    svg.style.maxWidth = `${place.width}px`;
    const clips = node(svg, "defs"), of = (kind, names) => names.map(
      name => [`${kind} ${name}`, node(svg, "g", { "data-name": name, class: kind })]);
    Object.entries(place.boxes).forEach(([, box], i) => node(
      node(clips, "clipPath", { id: `${id}-clip-${i}` }), "rect",
      { x: box.x, y: box.y, width: box.w, height: box.h }));
    groups = Object.fromEntries([...of("panels", Object.keys(scene.panels)),
      ...of("layers", Object.keys(scene.layers)), ...of("labels", Object.keys(scene.labels))]);
  };
  const paint = () => {
    asked = 0;
    const { scene, of } = store, all = !groups || painted < store[place.narrow ? "rooms" : "whole"];
    if (all) build(scene);
    const fresh = key => all || of[key] > painted, names = Object.keys(scene.panels);
    for (const name of names)
      if (fresh(`panels ${name}`))
        paintPanel(groups[`panels ${name}`], scene.panels[name], place.boxes[name], place);
    for (const [name, layer] of Object.entries(scene.layers))
      if (fresh(`layers ${name}`) || fresh(`panels ${layer.panel}`))
        paintLayer(groups[`layers ${name}`], layer, scene.panels[layer.panel],
                   place.boxes[layer.panel], `${id}-clip-${names.indexOf(layer.panel)}`);
    for (const [name, labels] of Object.entries(scene.labels))
      if (fresh(`labels ${name}`) || fresh(`panels ${name}`))
        paintLabels(groups[`labels ${name}`], labels, scene.panels[name], place.boxes[name], place);
    [svg.children[0].textContent, svg.children[1].textContent] = [scene.name, scene.alt];
    for (const [part, html] of [[words, scene.words], [table, scene.table]])
      if (part.dataset.now !== html) part.innerHTML = part.dataset.now = html;
    painted = store.stamp;
    el.dataset.painted = painted;
    el.dispatchEvent(new CustomEvent("painted"));
  };
  const view = { ask: () => { if (size) asked ||= requestAnimationFrame(paint); } };   // once it is seen
  const watch = new ResizeObserver(([{ contentRect: { width } }]) => {
    if (!width || (groups && Math.min(width, NARROW) === Math.min(size, NARROW))) return;
    [size, groups] = [width, null];
    view.ask();
  });
  store.views.add(view);
  watch.observe(el);
  return () => { store.views.delete(view); watch.disconnect(); cancelAnimationFrame(asked); };
}
// Called once a widget; `model` is another object in every call of initialize and render.
export default () => {
  let store;
  return { initialize: ({ model }) => { store = storeOf(model); },
           render: ({ el }) => render(store, el) };
};
