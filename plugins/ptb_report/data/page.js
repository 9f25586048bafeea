'use strict';
(async () => {
  const $ = id => document.getElementById(id);
  const root = document.documentElement;

  // Light or dark: as the system, or as chosen.
  const stored = (key, value) => {
    try { return value === undefined ? sessionStorage.getItem(key) : sessionStorage.setItem(key, value); } catch { return null; }
  };
  const isDark = () => (root.dataset.theme || (matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light')) === 'dark';
  if (stored('theme')) root.dataset.theme = stored('theme');
  $('theme').onclick = () => { root.dataset.theme = isDark() ? 'light' : 'dark'; stored('theme', root.dataset.theme); draw(); };
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => draw());

  // A page that is rewritten while the run goes on loads itself anew, where the reader is.
  const live = Number(document.body.dataset.live || 0);
  if (live) {
    const place = stored('scroll');
    if (place) requestAnimationFrame(() => scrollTo(0, Number(place)));
    const pause = $('pause');
    const press = on => { pause.setAttribute('aria-pressed', on); stored('paused', on ? '1' : ''); };
    press(stored('paused') === '1');
    pause.onclick = () => press(pause.getAttribute('aria-pressed') !== 'true');
    setInterval(() => {
      if (pause.getAttribute('aria-pressed') === 'true' || document.hidden) return;
      stored('scroll', scrollY);
      location.reload();
    }, live * 1000);
  }

  const unpack = async id => {
    const bytes = Uint8Array.from(atob($(id).textContent.trim()), character => character.charCodeAt(0));
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'))).text();
  };
  let payload, failed = false;
  try {
    payload = JSON.parse(await unpack('payload'));
    if ($('echarts')) {
      const script = document.createElement('script');
      script.textContent = await unpack('echarts');
      document.head.append(script);
    }
  } catch { failed = true; }
  if (failed || ($('echarts') && !globalThis.echarts)) $('trouble').hidden = false;
  if (!payload) return;

  const element = (name, text, attributes = {}) => {
    const made = Object.assign(document.createElement(name), attributes);
    if (text !== undefined && text !== null) made.textContent = text;
    return made;
  };
  const short = value => typeof value === 'number' ? String(Number(value.toPrecision(5))) : value === null || value === undefined ? '-' : String(value);

  // Tooltips are elements, never HTML: names may hold anything.
  const told = (heading, lines) => {
    const box = element('div');
    box.append(element('b', heading));
    for (const [name, value] of lines) box.append(element('div', name ? `${name}: ${value}` : value));
    Object.assign(box.style, {maxWidth: '18rem', whiteSpace: 'normal', overflowWrap: 'anywhere'});
    return box;
  };
  const samples = payload.samples;
  const tooltip = kind => found => {
    if (kind === 'matrix') {
      const [prediction, truth, count] = found.value;
      return told(`${apart(samples.classes[truth])} → ${apart(samples.classes[prediction])}`, [['', count]]);
    }
    if (!Array.isArray(found)) {
      return found.value && told(found.seriesName, [['', [].concat(found.value).map(short).join(', ')]]);
    }
    const rows = found.filter(each => each.seriesName);
    return told(short(found[0].axisValue), rows.map(each => [each.seriesName, short(Array.isArray(each.value) ? each.value[1] : each.value)]));
  };

  const charts = new Map();
  const draw = () => {
    if (!globalThis.echarts) return;
    for (const place of document.querySelectorAll('.chart')) {
      charts.get(place)?.dispose();
      const option = structuredClone(payload.charts[place.dataset.chart]);
      const kind = place.dataset.kind, sliders = (option.dataZoom || []).some(each => each.type === 'slider');
      const axes = [...(option.xAxis || []), ...(option.yAxis || [])];
      for (const axis of axes) {
        axis.nameMoveOverlap = false;
        axis.axisLabel = {hideOverlap: true, ...(axis.type === 'category' ? {width: 90, overflow: 'truncate'} : {})};
      }
      option.backgroundColor = 'transparent';
      if (option.xAxis) {
        const named = option.xAxis.some(axis => axis.name);
        option.grid = {left: 8, right: 24, top: 36, bottom: (sliders ? 44 : 8) + (named ? 24 : 0), containLabel: true};
        // Of a thousand labels ECharts leaves room for those that it does not draw.
        if (option.yAxis.some(axis => axis.name)) option.grid.top = 46;
        if (kind === 'square') {
          option.grid = {left: 48, right: 24, top: 46, bottom: 50, outerBoundsMode: 'none'};
          place.style.height = `${place.clientWidth + 24}px`; // so that both axes are as long
        }
        if (kind === 'matrix') option.grid = {left: 104, right: 8, top: 8, bottom: 28, outerBoundsMode: 'none'};
      }
      for (const zoom of option.dataZoom || []) {
        Object.assign(zoom, zoom.type === 'slider' ? {height: 22, bottom: 8, filterMode: 'none', showDetail: false} : {filterMode: 'none', zoomOnMouseWheel: 'ctrl', moveOnMouseMove: true});
      }
      option.tooltip = {...option.tooltip, formatter: tooltip(kind)};
      const chart = echarts.init(place, isDark() ? 'dark' : null, {renderer: 'svg'});
      chart.setOption(option);
      if (kind === 'matrix') chart.on('click', event => event.value && open(event.value[1], event.value[0]));
      charts.set(place, chart);
    }
  };

  // The samples of a cell: nine are shown, all are listed.
  const preview = number => {
    const shown = samples.shown[number];
    const drawn = document.querySelector(`[data-sample="${number}"]`);
    if (!shown) return drawn && drawn.firstElementChild ? drawn.firstElementChild.cloneNode(true) : null;
    if (shown.picture) return element('img', null, {src: `data:image/png;base64,${shown.picture}`, alt: ''});
    if (shown.text !== undefined) return element('q', shown.text);
    const list = element('dl', null, {className: 'row'});
    for (const [key, value] of Object.entries(shown.row || {})) {
      const pair = element('div');
      pair.append(element('dt', key), element('dd', short(value)));
      list.append(pair);
    }
    return list;
  };
  const apart = name => `\u2068${name}\u2069`; // isolated: the direction of one name does not turn what follows
  const fill = (text, values) => text.replace(/\{(\w+)\}/g, (whole, key) => key in values ? values[key] : whole);
  const open = (truth, prediction) => {
    const panel = $('panel'), data = panel.dataset;
    for (const cell of document.querySelectorAll('.cell')) {
      cell.setAttribute('aria-current', Number(cell.dataset.truth) === truth && Number(cell.dataset.prediction) === prediction);
    }
    const places = samples.number.map((_, place) => place).filter(place => samples.truth[place] === truth && samples.prediction[place] === prediction);
    const number = (samples.counts.find(each => each[0] === truth && each[1] === prediction) || [0, 0, 0])[2];
    const heading = element('h3', fill(data.heading, {truth: apart(samples.classes[truth]), prediction: apart(samples.classes[prediction]), number}));
    panel.replaceChildren(heading);
    if (places.length < number) panel.append(element('p', fill(data.first, {listed: places.length}), {className: 'note'}));
    const thumbs = element('ul', null, {className: 'thumbs'});
    for (const place of places) {
      if (thumbs.children.length === 9) break;
      const shown = preview(samples.number[place]);
      if (!shown) continue;
      const item = element('li');
      item.append(shown, element('bdi', samples.input[place]));
      thumbs.append(item);
    }
    if (thumbs.children.length) panel.append(thumbs);
    const table = element('table'), head = table.createTHead().insertRow(), body = table.createTBody();
    for (const name of JSON.parse(data.head)) head.append(element('th', name, {scope: 'col'}));
    for (const place of places) {
      const row = body.insertRow();
      row.dataset.listed = samples.number[place];
      const values = [samples.number[place], samples.input[place], samples.classes[truth], samples.classes[prediction], samples.probability[place], samples.loss[place]];
      for (const value of values) {
        const cell = row.insertCell();
        cell.append(element('bdi', short(value), String(value).length > 80 ? {className: 'long', title: value} : {}));
      }
    }
    const scroll = element('div', null, {className: 'scroll', tabIndex: 0});
    scroll.append(table);
    panel.append(scroll);
    panel.focus({preventScroll: true});
    panel.scrollIntoView({block: 'nearest'});
  };
  for (const button of document.querySelectorAll('[data-truth]')) {
    button.onclick = () => open(Number(button.dataset.truth), Number(button.dataset.prediction));
  }

  // One stop for the tab key; arrow keys move from cell to cell.
  const cells = [...document.querySelectorAll('.cell')];
  cells.forEach((cell, place) => { cell.tabIndex = place ? -1 : 0; });
  const moves = {ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0]};
  for (const cell of cells) {
    cell.onkeydown = event => {
      const move = moves[event.key];
      if (!move) return;
      event.preventDefault();
      const at = each => [Number(each.dataset.truth), Number(each.dataset.prediction)], [row, column] = at(cell);
      const ahead = cells.filter(each => {
        const [r, c] = at(each);
        return move[0] ? Math.sign(r - row) === move[0] : r === row && Math.sign(c - column) === move[1];
      });
      const distance = each => { const [r, c] = at(each); return Math.abs(r - row) * 1000 + Math.abs(c - column); };
      const next = ahead.sort((one, other) => distance(one) - distance(other))[0];
      if (next) { cell.tabIndex = -1; next.tabIndex = 0; next.focus(); }
    };
  }
  const rates = $('rates');
  if (rates) rates.onclick = () => {
    const on = document.querySelector('.matrix').classList.toggle('rates');
    rates.setAttribute('aria-pressed', on);
  };

  draw();
  const resize = new ResizeObserver(found => found.forEach(each => charts.get(each.target)?.resize()));
  for (const place of charts.keys()) resize.observe(place);
  document.body.dataset.drawn = 'true';
})();
