"""The panels' style sheet. Every colour is a JupyterLab variable, so that any theme, light or dark, fits.

The names after the comma are for pages without JupyterLab (an exported notebook): CSS system colours and plain names.
Sizes are in em,
 so panels grow with the reader's font. A doubled class outweighs JupyterLab's own rules for tables and
pictures in HTML outputs, so that the final, saved panel looks as the live one did.
"""

STYLE = """
.raybook-panel{
 --rb-ink:var(--jp-ui-font-color1,CanvasText);--rb-dim:var(--jp-ui-font-color2,GrayText);
 --rb-line:var(--jp-border-color2,GrayText);--rb-track:var(--jp-layout-color2,ButtonFace);
 --rb-good:var(--jp-success-color1,seagreen);--rb-run:var(--jp-brand-color1,royalblue);
 --rb-bad:var(--jp-error-color1,firebrick);--rb-warn:var(--jp-warn-color1,darkorange);
 box-sizing:border-box;max-width:920px;padding:7px 14px 9px;color:var(--rb-ink);
 font-family:var(--jp-ui-font-family,system-ui,sans-serif);font-size:var(--jp-ui-font-size1,13px);line-height:1.45;
 font-variant-numeric:tabular-nums}
.raybook-panel *{box-sizing:border-box}
.raybook-panel .rb-head{display:flex;align-items:baseline;gap:.7em;margin:0 0 4px;flex-wrap:wrap}
.raybook-panel .rb-title{font-weight:600;letter-spacing:.01em}
.raybook-panel .rb-dim{color:var(--rb-dim)}
.raybook-panel .rb-small{font-size:.92em}
.raybook-panel .rb-push{margin-left:auto}
.raybook-panel .rb-code{font-family:var(--jp-code-font-family,monospace);font-size:.95em}
.raybook-panel .rb-cut{overflow:hidden;text-overflow:ellipsis;white-space:nowrap;min-width:0}
.raybook-panel .rb-good{color:var(--rb-good)}.raybook-panel .rb-run{color:var(--rb-run)}
.raybook-panel .rb-bad{color:var(--rb-bad)}.raybook-panel .rb-warn{color:var(--rb-warn)}
.raybook-panel .rb-bar{display:flex;height:8px;border-radius:4px;overflow:hidden;
 background:var(--rb-track);min-width:60px}
.raybook-panel .rb-bar i{display:block;height:100%;flex:none}
.raybook-panel .rb-fill-good{background:var(--rb-good)}.raybook-panel .rb-fill-run{background:var(--rb-run)}
.raybook-panel .rb-fill-bad{background:var(--rb-bad)}.raybook-panel .rb-fill-warn{background:var(--rb-warn)}
.raybook-panel .rb-tasks{display:grid;grid-template-columns:minmax(7em,14em) minmax(80px,1fr) minmax(13em,auto);
 column-gap:1.1em;row-gap:3px;align-items:center}
.raybook-panel .rb-facts{display:flex;gap:.75em;justify-content:flex-end;white-space:nowrap;font-size:.92em}
.raybook-panel .rb-meters{display:flex;gap:1.2em;flex-wrap:wrap;align-items:center}
.raybook-panel .rb-meter{display:flex;gap:.5em;align-items:center;white-space:nowrap}
.raybook-panel .rb-meter .rb-bar{width:44px;height:6px}
.raybook-panel .rb-chip{display:inline-flex;align-items:center;gap:.4em;white-space:nowrap;font-size:.92em}
.raybook-panel .rb-chip::before{content:"";width:.55em;height:.55em;border-radius:50%;background:currentColor;
 flex:none}
.raybook-panel .rb-chip b{font-weight:400;color:var(--rb-ink)}
.raybook-panel .rb-scroll{overflow-x:auto}
.raybook-panel.raybook-panel table.rb-table{border-collapse:collapse;width:100%;margin:0;font-size:1em;border:0;
 color:inherit;
 table-layout:auto}
.raybook-panel.raybook-panel .rb-table th{font-weight:400;color:var(--rb-dim);text-align:left;padding:1px 1.1em 2px 0;
 border:0;
 font-size:.92em;white-space:nowrap;background:none}
.raybook-panel.raybook-panel .rb-table td{padding:2px 1.1em 2px 0;border:0;text-align:left;white-space:nowrap;
 vertical-align:middle;
 background:none;max-width:22em;line-height:1.45}
.raybook-panel.raybook-panel .rb-table tr{background:none!important}
.raybook-panel.raybook-panel .rb-table th:last-child,
.raybook-panel.raybook-panel .rb-table td:last-child{padding-right:0}
.raybook-panel.raybook-panel .rb-table th.rb-num,.raybook-panel.raybook-panel .rb-table td.rb-num{text-align:right}
.raybook-panel.raybook-panel .rb-table .rb-wide{width:99%;max-width:0}
.raybook-panel .rb-best td:first-child,.raybook-panel .rb-best td.rb-num{font-weight:600}
.raybook-panel .rb-star{color:var(--rb-warn);width:1.2em;display:inline-block}
.raybook-panel.raybook-panel svg.rb-spark{display:block;overflow:visible;max-width:none;width:104px;height:18px}
.raybook-panel .rb-spark polyline{fill:none;stroke:currentColor;stroke-width:1.4;stroke-linejoin:round;
 stroke-linecap:round}
.raybook-panel .rb-spark circle{fill:currentColor}
.raybook-card{border:1px solid var(--jp-border-color2,GrayText);border-radius:6px;max-width:922px;overflow:hidden;
 background:var(--jp-layout-color1,Canvas);margin:2px 0}
.raybook-card .widget-html,.raybook-card .widget-html-content{margin:0!important;width:auto;overflow:hidden;
 flex:1 1 auto;height:auto;line-height:inherit}
.raybook-card .raybook-panel{max-width:none}
.raybook-card .raybook-panel:not([data-panel="cluster"]){border-top:1px solid var(--jp-border-color2,GrayText)}
.raybook-card .raybook-bar-row{align-items:center}
.raybook-card .raybook-button{flex:none;width:auto;height:24px;line-height:22px;margin:0 10px 0 0;padding:0 10px;
 background:transparent;border:1px solid var(--jp-border-color2);border-radius:4px;box-shadow:none;
 color:var(--jp-ui-font-color1);font-size:var(--jp-ui-font-size1)}
.raybook-card .raybook-button:hover:not(:disabled){background:var(--jp-layout-color2);box-shadow:none}
.raybook-card .raybook-button:focus-visible{outline:2px solid var(--jp-brand-color1);outline-offset:1px}
"""

STYLE_ELEMENT = "<style>" + STYLE.strip() + "</style>"
