#!/bin/sh
# Makes echarts.min.js.gz beside it: of ECharts, what the pages of ptb report draw with. Needs node and npm.
set -eu
data=$(cd "$(dirname "$0")" && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm init -y >/dev/null
npm install --no-audit --no-fund echarts@6.1.0 esbuild@0.28.2 >&2
cat >entry.js <<'ENTRY'
import {use, init} from 'echarts/core';
import {LineChart, BarChart, ScatterChart, HeatmapChart, ParallelChart} from 'echarts/charts';
import {
  GridComponent, TooltipComponent, LegendScrollComponent, DataZoomComponent, VisualMapComponent, MarkLineComponent,
  ParallelComponent,
} from 'echarts/components';
import {SVGRenderer} from 'echarts/renderers';
use([
  LineChart, BarChart, ScatterChart, HeatmapChart, ParallelChart, GridComponent, TooltipComponent,
  LegendScrollComponent, DataZoomComponent, VisualMapComponent, MarkLineComponent, ParallelComponent, SVGRenderer,
]);
globalThis.echarts = {init};
ENTRY
npx esbuild entry.js --bundle --minify --format=iife --target=es2018 --legal-comments=none --charset=utf8 \
  --outfile=echarts.js >&2
gzip -9nc echarts.js >"$data/echarts.min.js.gz"
cp node_modules/echarts/LICENSE "$data/LICENSE-echarts"
cp node_modules/echarts/NOTICE "$data/NOTICE-echarts"
{
  printf 'ECharts draws with zrender, https://github.com/ecomfe/zrender:\n\n'
  cat node_modules/zrender/LICENSE
  printf '\nECharts contains parts of d3, https://github.com/d3/d3:\n\n'
  cat node_modules/echarts/licenses/LICENSE-d3
} >"$data/LICENSE-parts"
