/**
 * Runs the classifier of a folder in Node.js, for the export to compare. Each line of the input is a JSON object with
 * `rows` of token ids to run, or `texts` to encode; each line of the output is the answer.
 */

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { Classifier } from "./page/classifier.js";

const [folder] = process.argv.slice(2);
const classifier = await Classifier.open((path) => readFile(join(folder, path)));
for await (const line of createInterface({ input: process.stdin })) {
  const { rows, texts } = JSON.parse(line);
  const answer = texts
    ? texts.map((text) => classifier.encoder.encode(text))
    : (await classifier.run(rows)).map((logits) => [...logits]);
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
