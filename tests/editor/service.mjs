// Asks VS Code's own JSON language service about tasks files: what it finds wrong in each, and what it offers at places.
// Reads {schema, files: {name: text}, places: [{text, offset}]} as JSON from standard input, and answers in JSON.
import { readFileSync } from "node:fs";

import languageService from "vscode-json-languageservice";

const { getLanguageService, TextDocument } = languageService;

const ADDRESS = "triggerstream://tasks.schema.json";
const asked = JSON.parse(readFileSync(0, "utf-8"));
const schema = JSON.stringify(asked.schema);
const service = getLanguageService({ schemaRequestService: async () => schema });
// Comments and trailing commas are errors unless the schema allows them, as in a file that is called *.json.
service.configure({
  validate: true,
  allowComments: false,
  schemas: [{ uri: ADDRESS, fileMatch: ["*.json"], schema: asked.schema }],
});

const parsed = (name, text) => {
  const document = TextDocument.create(`file:///${name}.json`, "json", 1, text);
  return [document, service.parseJSONDocument(document)];
};

const problems = {};
for (const [name, text] of Object.entries(asked.files)) {
  const [document, tree] = parsed(name, text);
  problems[name] = (await service.doValidation(document, tree)).map(
    ({ message, range }) => `${range.start.line + 1}:${range.start.character + 1} ${message}`,
  );
}

const offers = [];
for (const { text, offset } of asked.places) {
  const [document, tree] = parsed("place", text);
  const position = document.positionAt(offset);
  const completions = await service.doComplete(document, position, tree);
  offers.push(
    (completions?.items ?? []).map(({ label, documentation }) => ({
      label,
      says: documentation?.value ?? documentation ?? "",
    })),
  );
}
console.log(JSON.stringify({ problems, offers }));
