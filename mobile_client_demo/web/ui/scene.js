/** A lamp on a headland, its light over the water, and a ship that answers. Colours come from the style sheet. */
import { html } from "./html.js";

export function Scene() {
  return html`<svg class="scene" viewBox="0 0 720 900" preserveAspectRatio="xMidYMax slice" aria-hidden="true" focusable="false">
    <defs>
      <linearGradient id="beam" x1="0" y1="0" x2="1" y2="0"><stop class="beam-near" offset="0" /><stop class="beam-far"
        offset="1" /></linearGradient>
      <radialGradient id="glow"><stop class="beam-near" offset="0" /><stop class="beam-far" offset="1" /></radialGradient>
    </defs>
    <g class="scene-stars">
      ${[[90, 120], [190, 70], [300, 150], [420, 60], [540, 130], [640, 80], [130, 260], [360, 270], [590, 240], [680, 330], [60, 400], [480, 210], [240, 350]].map(
        ([x, y], index) => html`<circle key=${index} cx=${x} cy=${y} r=${index % 3 ? 1.6 : 2.4} />`,
      )}
    </g>
    <path class="scene-far" d="M0 610c60-8 90-38 150-34s80 26 130 24 60-18 110-16 70 26 130 26h200v60H0Z" />
    <rect class="scene-sea" x="0" y="626" width="720" height="274" />
    <path class="scene-beam" d="M206 520 720 372V640L206 536Z" />
    <circle class="scene-glow" cx="204" cy="528" r="86" />
    <g class="scene-ship" transform="translate(566 606)">
      <path d="M-48 12h96l-14 22h-68ZM-22 12v-16h40v16M-4-4v-30M-4-30l22 20" /><circle class="scene-answer" cx="-4" cy="-38" r="5" />
    </g>
    <g class="scene-waves">
      <path d="M40 690q24-12 48 0t48 0 48 0" /><path d="M330 672q20-10 40 0t40 0 40 0" /><path d="M520 724q26-12 52 0t52 0 52 0" />
      <path d="M250 770q30-14 60 0t60 0 60 0" /><path d="M560 812q28-12 56 0t56 0" /><path d="M420 860q26-12 52 0t52 0" />
    </g>
    <path class="scene-rock" d="M0 900V640c40-20 70-26 104-24 30-26 70-34 104-26 34 8 52 26 62 54 24 20 40 60 46 106 10 40 26 90 44 150Z" />
    <g class="scene-lamp">
      <path class="scene-post" d="M170 566 150 640h80l-20-74Z" />
      <circle class="scene-case" cx="190" cy="528" r="46" /><circle class="scene-glass" cx="200" cy="528" r="35" />
      <path class="scene-slats" d="M178 512h44M172 528h56M178 544h30" />
    </g>
  </svg>`;
}
