/** The server's protocol side: requests in, answers of the pure functions out. */

import {
  CompletionItemKind,
  type Connection,
  MarkupKind,
  SymbolKind,
  TextDocumentSyncKind,
  TextDocuments,
} from 'vscode-languageserver';
import { TextDocument } from 'vscode-languageserver-textdocument';
import { withoutComments } from './asm/source-line.ts';
import { type Completion, completions } from './completion.ts';
import { assemblyHover, cHover } from './hover.ts';
import { C_LANGUAGES, type FilesAnswer, METHODS, type TextAnswer } from './protocol.ts';
import { type OutlineSymbol, symbolTree } from './symbols.ts';
import { AssemblyWorkspace, type Place, type TextSource } from './workspace.ts';

const COMPLETION_KINDS: Readonly<Record<Completion['kind'], CompletionItemKind>> = {
  instruction: CompletionItemKind.Keyword,
  label: CompletionItemKind.Function,
  constant: CompletionItemKind.Constant,
  macro: CompletionItemKind.Snippet,
  field: CompletionItemKind.Field,
};
const SYMBOL_KINDS: Readonly<Record<OutlineSymbol['kind'], SymbolKind>> = {
  label: SymbolKind.Function,
  local: SymbolKind.Key,
  number: SymbolKind.Key,
  constant: SymbolKind.Constant,
  macro: SymbolKind.Method,
};

/** The largest column that the protocol has: the client takes the line's end. */
const END_OF_LINE = 2 ** 31 - 1;

/** Connects the handlers and listens; the connection is Node's or a browser worker's. */
export function serve(connection: Connection): void {
  const documents = new TextDocuments(TextDocument);
  const workspace = new AssemblyWorkspace(clientTexts(connection, documents));
  let encodingsInC = false;

  connection.onInitialize(() => ({
    capabilities: {
      textDocumentSync: TextDocumentSyncKind.Incremental,
      hoverProvider: true,
      definitionProvider: true,
      documentSymbolProvider: true,
      completionProvider: { triggerCharacters: ['.', '%', '$'] },
    },
  }));
  connection.onDidChangeConfiguration(({ settings }) => {
    encodingsInC = settings?.vmxray?.languageServer?.encodingsInC === true;
  });
  documents.onDidChangeContent(({ document }) => workspace.forget(document.uri));
  documents.onDidClose(({ document }) => workspace.forget(document.uri));
  connection.onDidChangeWatchedFiles(({ changes }) => {
    for (const { uri } of changes) workspace.forget(uri);
  });

  connection.onHover(async ({ textDocument, position }) => {
    const document = documents.get(textDocument.uri);
    if (!document) return null;
    const { line, character } = position;
    const found = C_LANGUAGES.includes(document.languageId)
      ? encodingsInC && cHover(document.getText(), line, character)
      : await hoverIn(workspace, document, line, character);
    if (!found) return null;
    const { markdown, word } = found;
    return {
      contents: { kind: MarkupKind.Markdown, value: markdown },
      range: { start: { line, character: word.start }, end: { line, character: word.end } },
    };
  });
  connection.onDefinition(async ({ textDocument, position }) => {
    if (isC(documents.get(textDocument.uri))) return null;
    return (await workspace.definitions(textDocument.uri, position.line, position.character)).map(location);
  });
  connection.onDocumentSymbol(async ({ textDocument }) => {
    const document = documents.get(textDocument.uri);
    const outline = isC(document) ? undefined : await workspace.outline(textDocument.uri);
    return outline && document ? symbolTree(outline, document.lineCount - 1).map(documentSymbol) : null;
  });
  connection.onCompletion(async ({ textDocument, position }) => {
    const document = documents.get(textDocument.uri);
    if (!document || isC(document)) return null;
    const outlines = (await workspace.withIncludes(textDocument.uri)).map(([, outline]) => outline);
    const dialect = outlines[0]?.dialect ?? 'nasm';
    const before = document.getText({ start: { line: position.line, character: 0 }, end: position });
    const stripped = withoutComments(before, dialect)[0] ?? '';
    if (stripped.length < before.length) return null;
    return completions(stripped, dialect, outlines).map(completionItem);
  });

  documents.listen(connection);
  connection.listen();
}

const isC = (document: TextDocument | undefined): boolean =>
  document !== undefined && C_LANGUAGES.includes(document.languageId);

/** Open documents, and for the others what the client reads. */
function clientTexts(connection: Connection, documents: TextDocuments<TextDocument>): TextSource {
  return {
    async text(uri) {
      const open = documents.get(uri);
      if (open) return open.getText();
      return connection.sendRequest<TextAnswer>(METHODS.read, { uri }).then(
        ({ text }) => text,
        // The file is not there: the caller asks for names that may not exist.
        () => undefined,
      );
    },
    files: async () => (await connection.sendRequest<FilesAnswer>(METHODS.files)).uris,
  };
}

async function hoverIn(workspace: AssemblyWorkspace, document: TextDocument, line: number, character: number) {
  const outline = await workspace.outline(document.uri);
  if (!outline) return undefined;
  return assemblyHover(withoutComments(document.getText(), outline.dialect), outline.dialect, line, character);
}

const location = ({ uri, line, start, end }: Place) => ({
  uri,
  range: { start: { line, character: start }, end: { line, character: end } },
});

interface NestedSymbol {
  name: string;
  kind: SymbolKind;
  range: ReturnType<typeof location>['range'];
  selectionRange: ReturnType<typeof location>['range'];
  children: NestedSymbol[];
}

function documentSymbol({ name, kind, line, column, endLine, children }: OutlineSymbol): NestedSymbol {
  const end = column + name.length;
  return {
    name,
    kind: SYMBOL_KINDS[kind],
    range: {
      start: { line, character: column },
      end: endLine > line ? { line: endLine, character: END_OF_LINE } : { line, character: end },
    },
    selectionRange: { start: { line, character: column }, end: { line, character: end } },
    children: children.map(documentSymbol),
  };
}

const completionItem = ({ label, kind, detail, insertText, documentation }: Completion) => ({
  label,
  kind: COMPLETION_KINDS[kind],
  ...(detail === undefined ? {} : { detail }),
  ...(insertText === undefined ? {} : { insertText }),
  ...(documentation === undefined ? {} : { documentation: { kind: MarkupKind.Markdown, value: documentation } }),
});
