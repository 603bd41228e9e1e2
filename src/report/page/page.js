// Draws a page's charts with uPlot. Without it the page is complete as tables.
(function () {
  "use strict";
  var charts = JSON.parse(document.getElementById("charts").textContent);
  var places = document.querySelectorAll("[data-chart]");
  var groups = {};
  var drawn = [];
  document.documentElement.classList.add("scripted");
  // Without a script these tables stand in for the charts.
  document.querySelectorAll("details.instead").forEach(function (it) { it.open = false; });

  function style(name) { return getComputedStyle(document.documentElement).getPropertyValue(name).trim(); }
  function digits(n) { return n >= 100 ? n.toFixed(0) : n >= 10 ? n.toFixed(1) : n.toFixed(2); }
  function trimmed(n) { return String(+digits(n)); }

  // ---- figures with their units
  function time(s) {
    if (s === 0) return "0 s";
    if (s < 0.001) return trimmed(s * 1e6) + " µs";
    if (s < 1) return trimmed(s * 1e3) + " ms";
    if (s < 120) return trimmed(s) + " s";
    return Math.floor(s / 60) + " m " + Math.round(s % 60) + " s";
  }
  function size(b) {
    var units = ["B", "KiB", "MiB", "GiB", "TiB"], at = 0;
    while (b >= 1024 && at < 4) { b /= 1024; at += 1; }
    return trimmed(b) + " " + units[at];
  }
  function count(n) {
    if (n >= 1e6) return trimmed(n / 1e6) + " M";
    return n >= 1e4 ? trimmed(n / 1e3) + " k" : String(+n.toFixed(2));
  }
  var texts = {
    "seconds": time, "bytes": size, "count": count,
    "per-second": function (n) { return count(n) + "/s"; },
    "percent": function (n) { return trimmed(n) + " %"; }
  };
  function clock(s, step) {
    if (s < 0) return "";
    if (s < 120 && step < 60) return +s.toFixed(step < 1 ? 2 : 1) + " s";
    var minutes = Math.floor(s / 60), rest = Math.round(s - minutes * 60);
    return minutes + ":" + (rest < 10 ? "0" : "") + rest;
  }

  // ---- what all charts share
  function axis(more) {
    var base = {
      stroke: style("--soft"), font: "12px system-ui, sans-serif",
      grid: { stroke: style("--grid"), width: 1 }, ticks: { stroke: style("--grid"), width: 1, size: 4 }
    };
    return Object.assign(base, more);
  }
  function timeAxis() {
    return axis({
      space: 64, size: 28,
      values: function (u, splits) {
        var step = splits.length > 1 ? splits[1] - splits[0] : 1;
        return splits.map(function (s) { return clock(s, step); });
      }
    });
  }
  // Of powers of ten those that have room.
  function decades(u, splits) {
    return splits.map(function (s) {
      var power = Math.log10(s);
      return Math.abs(power - Math.round(power)) < 1e-9 ? s : null;
    });
  }
  function together(group, length) {
    var members = groups[group] || (groups[group] = []);
    function zoom(u) {
      if (members.busy) return;
      members.busy = true;
      var x = u.scales.x;
      members.forEach(function (other) {
        if (other !== u && (other.scales.x.min !== x.min || other.scales.x.max !== x.max)) {
          other.setScale("x", { min: x.min, max: x.max });
        }
      });
      members.busy = false;
    }
    return {
      members: members,
      cursor: {
        y: false, sync: { key: group, setSeries: false }, drag: { x: true, y: false, dist: 6 },
        bind: {
          dblclick: function (u) { return function () { u.setScale("x", { min: 0, max: length }); return null; }; }
        }
      },
      zoom: function (u, key) { if (key === "x" && u.status) zoom(u); }
    };
  }
  function series(one, unit) {
    var color = style("--c" + one.color % 8), kind = one.style;
    var it = {
      label: one.label, stroke: color, width: 1.5, spanGaps: true, points: { show: one.x.length < 3, size: 5, fill: color },
      value: function (u, value) { return value == null ? "-" : texts[unit](value); }
    };
    if (kind === "steps") { it.paths = uPlot.paths.stepped({ align: 1 }); it.fill = faint(color); }
    if (kind === "bars") { it.paths = uPlot.paths.bars({ size: [1, 12, 2], align: 0 }); it.fill = color; it.points = { show: false }; }
    if (kind === "dashes") { it.dash = [6, 4]; it.points = { show: false }; }
    return it;
  }
  function legend(chart) {
    var color = function (u, at) { return at > 0 ? style("--c" + chart.series[at - 1].color % 8) : "transparent"; };
    return { live: true, markers: { width: 0, fill: color } };
  }
  // Without a pointer in a chart its legend names the series only.
  function idle(u) { u.root.classList.toggle("idle", u.cursor.left == null || u.cursor.left < 0); }
  function faint(color) { return color + "26"; }
  function joined(list) { return uPlot.join(list.map(function (one) { return [one.x, one.y]; })); }

  // ---- the kinds
  function plot(chart) {
    var shared = together(chart.group, chart.length), text = texts[chart.unit];
    return {
      data: joined(chart.series), members: shared.members, height: 128,
      options: {
        cursor: shared.cursor,
        legend: legend(chart),
        scales: {
          x: { time: false, min: 0, max: chart.length, auto: false },
          y: chart.log ? { distr: 3, range: powers } : { range: function (u, min, max) { return [0, max > 0 ? max * 1.08 : 1]; } }
        },
        axes: [timeAxis(), chart.log
          ? axis({ size: 66, space: 22, values: function (u, splits) { return decades(u, splits).map(function (s) { return s == null ? null : text(s); }); },
            grid: { stroke: style("--grid"), width: 1, filter: decades }, ticks: { stroke: style("--grid"), size: 4, filter: decades } })
          : axis({ size: 66, space: 26, incrs: steps(chart.unit), values: function (u, splits) { return splits.map(function (s) { return text(s); }); } })],
        series: [{ label: "at", value: function (u, s) { return s == null ? "-" : time(s); } }]
          .concat(chart.series.map(function (one) { return series(one, chart.unit); })),
        hooks: { setScale: [shared.zoom], setCursor: [idle] }
      }
    };
  }
  // Bytes are counted in powers of two, and other counts in whole numbers.
  function steps(unit) {
    var list = [], power;
    if (unit === "bytes") for (power = 0; power < 50; power += 1) list.push(Math.pow(2, power));
    if (unit === "count") for (power = 0; power < 16; power += 1) [1, 2, 5].forEach(function (n) { list.push(n * Math.pow(10, power)); });
    return list.length ? list : undefined;
  }
  // Whole decades, so that a figure can be read off.
  function powers(u, min, max) {
    if (!(min > 0)) min = 1e-5;
    if (!(max > min)) max = min * 10;
    return [Math.pow(10, Math.floor(Math.log10(min) + 1e-9)), Math.pow(10, Math.ceil(Math.log10(max) - 1e-9))];
  }
  function quantiles(chart) {
    var text = function (x) { return x <= 1.0001 ? "all" : "1 in " + count(Math.round(x)); };
    return {
      data: joined(chart.series), members: [], height: 168,
      options: {
        cursor: { y: false, drag: { x: false, y: false } },
        legend: legend(chart),
        scales: { x: { time: false, distr: 3 }, y: { distr: 3, range: powers } },
        axes: [
          axis({ space: 40, size: 28, values: function (u, splits) { return decades(u, splits).map(function (s) { return s == null ? null : text(s); }); },
            grid: { stroke: style("--grid"), width: 1, filter: decades }, ticks: { stroke: style("--grid"), size: 4, filter: decades } }),
          axis({ size: 66, space: 22, values: function (u, splits) { return decades(u, splits).map(function (s) { return s == null ? null : time(s); }); },
            grid: { stroke: style("--grid"), width: 1, filter: decades }, ticks: { stroke: style("--grid"), size: 4, filter: decades } })
        ],
        series: [{ label: "the slowest", value: function (u, x) { return x == null ? "-" : text(x); } }]
          .concat(chart.series.map(function (one) { return series(one, "seconds"); })),
        padding: [6, 34, 0, 0],
        hooks: { setCursor: [idle] }
      }
    };
  }
  var ROW = 21;
  function bands(chart, place) {
    var shared = together(chart.group, chart.length);
    var hint = document.createElement("div");
    hint.className = "hint";
    place.before = hint;
    function draw(u) {
      var c = u.ctx, ratio = window.devicePixelRatio || 1, box = u.bbox;
      c.save();
      c.font = 12 * ratio + "px system-ui, sans-serif";
      c.textBaseline = "middle";
      chart.rows.forEach(function (row, at) {
        var top = box.top + at * ROW * ratio, color = style("--band-" + row.kind);
        c.fillStyle = style("--soft");
        c.textAlign = "right";
        c.fillText(row.label, box.left - 6 * ratio, top + ROW * ratio / 2);
        c.save();
        c.beginPath();
        c.rect(box.left, box.top, box.width, box.height);
        c.clip();
        row.bands.forEach(function (band) {
          var from = u.valToPos(band.from, "x", true), until = u.valToPos(band.until, "x", true);
          var width = Math.max(until - from, 3 * ratio);
          c.fillStyle = color;
          c.fillRect(from, top + 4 * ratio, width, (ROW - 8) * ratio);
        });
        c.restore();
      });
      c.restore();
    }
    function read(u) {
      var left = u.cursor.left;
      if (left == null || left < 0) { hint.textContent = "Point at a band to see what it was."; return; }
      var at = u.posToVal(left, "x"), near = (u.scales.x.max - u.scales.x.min) / u.over.clientWidth * 4;
      var found = [];
      chart.rows.forEach(function (row) {
        row.bands.forEach(function (band) {
          if (at >= band.from - near && at <= band.until + near && found.length < 4) {
            found.push(band.text + (band.until > band.from ? " (" + time(band.from) + " to " + time(band.until) + ")" : " (" + time(band.from) + ")"));
          }
        });
      });
      hint.textContent = time(at) + ": " + (found.length ? found.join(" · ") : "nothing");
    }
    return {
      data: [[0, chart.length], [null, null]], members: shared.members, height: chart.rows.length * ROW + 28, hint: hint,
      options: {
        cursor: shared.cursor,
        legend: { show: false },
        padding: [0, 18, 0, 0],
        scales: { x: { time: false, min: 0, max: chart.length, auto: false }, y: { range: [0, 1] } },
        axes: [timeAxis(), { show: true, size: 92, values: function () { return []; }, grid: { show: false }, ticks: { show: false }, splits: function () { return []; } }],
        series: [{}, { show: true, stroke: "transparent", points: { show: false } }],
        hooks: { draw: [draw], setCursor: [read], setScale: [shared.zoom], ready: [read] }
      }
    };
  }
  var kinds = { plot: plot, bands: bands, quantiles: quantiles };

  function draw(place) {
    var chart = charts[+place.dataset.chart];
    var made = kinds[chart.kind](chart, place);
    place.textContent = "";
    if (made.hint) place.appendChild(made.hint);
    var options = Object.assign({ width: place.clientWidth, height: made.height, padding: [6, 18, 0, 0] }, made.options);
    // Lanes begin at one line, whatever stands on their axes.
    if (place.classList.contains("plot") || place.classList.contains("bands")) options.axes[1].size = place.clientWidth < 450 ? 76 : 92;
    var u = new uPlot(options, made.data, place);
    if (u.legend && u.root.querySelector(".u-legend")) u.root.querySelector(".u-legend").classList.add("u-inline");
    u.root.classList.add("idle");
    made.members.push(u);
    drawn.push({ u: u, place: place, height: made.height });
  }
  function drawAll() {
    drawn.forEach(function (it) { it.u.destroy(); });
    drawn = [];
    groups = {};
    places.forEach(draw);
  }
  drawAll();
  function fit() {
    drawn.forEach(function (it) {
      var width = it.place.clientWidth;
      if (width > 0 && width !== it.u.width) it.u.setSize({ width: width, height: it.height });
    });
  }
  if (window.ResizeObserver) new ResizeObserver(fit).observe(document.querySelector("main"));
  else window.addEventListener("resize", fit);
  if (window.matchMedia) {
    var dark = window.matchMedia("(prefers-color-scheme: dark)");
    if (dark.addEventListener) dark.addEventListener("change", drawAll);
  }
  document.documentElement.dataset.drawn = Math.round(performance.now());
})();
