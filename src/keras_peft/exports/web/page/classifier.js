/** A classifier: tokenizer, model and task. It runs in a browser and in Node.js. */

import { env, InferenceSession, Tensor } from "../libraries/onnxruntime.js";
import { Tokenizer } from "../libraries/tokenizers.js";
import { Encoder } from "./encoder.js";
import { predictor, probabilitiesOf } from "./predictions.js";

const ROWS_AT_ONCE = 8;

export class Classifier {
  /**
   * Opens the classifier of a folder.
   * @param {(path: string, sum?: string) => Promise<Uint8Array>} read Reads a file of the folder, by its path and the
   *   SHA-256 of its content.
   * @returns {Promise<Classifier>}
   */
  static async open(read) {
    const parsed = (bytes) => JSON.parse(new TextDecoder().decode(bytes));
    const content = parsed(await read("keras_peft.json"));
    const paths = ["page.json", "tokenizer.json", "libraries/onnxruntime.wasm", content.model];
    const [page, tokenizer, runtime, model] = await Promise.all(paths.map((path) => read(path, content.files[path])));
    // More threads need two headers that static hosts rarely send.
    env.wasm.numThreads = 1;
    env.wasm.wasmBinary = runtime;
    const session = await InferenceSession.create(model).catch((error) => {
      throw new Error(`The model cannot be opened; copy the folder again (${error.message}).`);
    });
    return new Classifier(content, new Encoder(new Tokenizer(parsed(tokenizer), {}), content, parsed(page)), session);
  }

  constructor(content, encoder, session) {
    this.content = content;
    this.encoder = encoder;
    this._session = session;
    this._predict = predictor(content);
    this._turn = Promise.resolve();
  }

  /**
   * Predicts texts.
   * @param {unknown[]} given Texts, pairs of texts, or lists of words.
   * @param {() => Promise<void>} [pause] Called between batches.
   * @returns {Promise<{predictions: import("./api.js").Prediction[], parts: Record<string, number>, cut: number}>} The
   *   predictions, the milliseconds of the parts, and the number of texts that were cut.
   */
  async predict(given, pause) {
    const started = performance.now();
    const texts = given.map((text) => this.encoder.read(text));
    const encoded = texts.map((text) => this.encoder.encode(text));
    const tokenized = performance.now();
    const outputs = await this._outputs(encoded, pause);
    return {
      predictions: outputs.map((own, at) => this._predict(own, texts[at])),
      parts: { tokenization: Math.round(tokenized - started), inference: Math.round(performance.now() - tokenized) },
      cut: encoded.filter(({ isCut }) => isCut).length,
    };
  }

  /**
   * Returns the probabilities of texts, in the order of the labels.
   * @param {(string | string[])[]} texts From the encoder's `read`.
   * @param {() => Promise<void>} [pause] Called between batches.
   * @returns {Promise<number[][]>}
   */
  async probabilities(texts, pause) {
    const outputs = await this._outputs(texts.map((text) => this.encoder.encode(text)), pause);
    return outputs.map((own) => probabilitiesOf(this.content, own));
  }

  /**
   * Computes the logits of rows.
   * @param {number[][]} rows Token ids.
   * @param {() => Promise<void>} [pause] Called between batches.
   * @returns {Promise<Float32Array[]>} The logits of each row, or of each of its tokens one after the other.
   */
  async run(rows, pause = async () => {}) {
    /** @type {Float32Array[]} */
    const found = [];
    // Padding would change the sums a little, and with weights of 8 bits the answers with them.
    /** @type {Map<number, number[]>} */
    const byLength = new Map();
    rows.forEach(({ length }, place) => byLength.set(length, [...(byLength.get(length) ?? []), place]));
    for (const places of byLength.values()) {
      for (let at = 0; at < places.length; at += ROWS_AT_ONCE) {
        const batch = places.slice(at, at + ROWS_AT_ONCE);
        const logits = await this._runBatch(batch.map((place) => rows[place]));
        const size = logits.length / batch.length;
        batch.forEach((place, row) => (found[place] = logits.slice(row * size, (row + 1) * size)));
        await pause();
      }
    }
    return found;
  }

  /** Runs rows of the same length. */
  async _runBatch(rows) {
    const shape = [rows.length, rows[0].length];
    const ids = new Tensor("int64", BigInt64Array.from(rows.flat(), BigInt), shape);
    const mask = new Tensor("int64", new BigInt64Array(ids.size).fill(1n), shape);
    // A session runs one batch at a time.
    const running = this._turn.then(() => this._session.run({ input_ids: ids, attention_mask: mask }));
    this._turn = running.then(() => {}, () => {});
    return (await running).logits.data;
  }

  /** Computes the outputs of texts: logits, or for words, a list with the logits of each, null if it was cut off. */
  async _outputs(encoded, pause) {
    const logits = await this.run(encoded.flatMap(({ rows }) => rows), pause);
    return encoded.map(({ rows, places }) => {
      const windows = logits.splice(0, rows.length);
      if (places === null) return meanOf(windows);
      const labels = this.content.labels.length;
      return places.map((place) => (place < 0 ? null : [...windows[0].slice(place * labels, (place + 1) * labels)]));
    });
  }
}

function meanOf(windows) {
  return [...windows[0]].map((_, at) => windows.reduce((sum, own) => sum + own[at], 0) / windows.length);
}
