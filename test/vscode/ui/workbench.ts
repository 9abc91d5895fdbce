import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Browser, FrameLocator, Locator, Page } from 'playwright-core';
import { type Server, startServer } from '../../../scripts/vscode-server.ts';
import { artifact, ROOT } from '../../project-files.ts';
import { launchBrowser, remoteUri, workbenchUrl } from '../browser.ts';

/** How long anything may take to appear, in milliseconds. */
const WAIT = 30_000;
/** A context menu ignores clicks for so many milliseconds, so that the one that opened it chooses nothing. */
const MENU_DELAY = 500;

/** Without a GPU the terminal's text is in the page, where tests can read it. */
const SETTINGS = { 'terminal.integrated.gpuAcceleration': 'off' };

const SIZE = { width: 1600, height: 1000 };

/** Where the debugger shows that it stopped. */
export interface Place {
  readonly file: string;
  readonly line: number;
}

/** VS Code's window with VMXray loaded, used by keyboard and mouse as a person uses it. */
export class Workbench {
  readonly page: Page;
  private readonly server: Server;
  private readonly browser: Browser;
  private readonly home: string;

  private constructor(page: Page, server: Server, browser: Browser, home: string) {
    this.page = page;
    this.server = server;
    this.browser = browser;
    this.home = home;
  }

  /** @param folder absolute path of the workspace, which holds a README.md */
  static async open(folder: string): Promise<Workbench> {
    const home = mkdtempSync(join(tmpdir(), 'vmxray-ui-'));
    const folders = { userData: join(home, 'data'), extensions: join(home, 'extensions') };
    const server = await startServer({ port: 0, ...folders, testDriver: true, settings: SETTINGS });
    const browser = await launchBrowser();
    const page = await browser.newPage({ viewport: SIZE });
    page.setDefaultTimeout(WAIT);
    const payload = [
      ['extensionDevelopmentPath', remoteUri(server.port, ROOT)],
      ['skipWelcome', 'true'],
    ] as const;
    await page.goto(workbenchUrl(server.port, folder, payload));
    const workbench = new Workbench(page, server, browser, home);
    await page.getByRole('treeitem', { name: 'README.md' }).waitFor();
    return workbench;
  }

  async close(): Promise<void> {
    await this.browser.close();
    this.server.process.kill();
    rmSync(this.home, { recursive: true, force: true });
  }

  async screenshot(name: string): Promise<void> {
    await this.page.screenshot({ path: artifact(`${name}.png`) });
  }

  async press(...keys: readonly string[]): Promise<void> {
    for (const key of keys) await this.page.keyboard.press(key);
  }

  /** Types into the quick input that `key` opens, and accepts its first suggestion; it closes, or asks what follows. */
  private async quickInput(key: string, text: string, row: string, follows?: string): Promise<void> {
    await this.press(key);
    const input = this.page.locator('.quick-input-widget input[type=text]');
    await input.waitFor();
    await input.pressSequentially(text);
    await this.page.locator('.quick-input-list .monaco-list-row.focused').filter({ hasText: row }).first().waitFor();
    await this.press('Enter');
    if (follows === undefined) await input.waitFor({ state: 'hidden' });
    else await input.and(this.page.getByLabel(follows)).waitFor();
  }

  command(title: string): Promise<void> {
    return this.quickInput('F1', title, title);
  }

  /** Runs a command that asks for a file, and types the file's path. */
  async commandWithFile(title: string, path: string): Promise<void> {
    const input = this.page.locator('.quick-input-widget input[type=text]');
    await this.press('F1');
    await input.waitFor();
    await input.pressSequentially(title);
    await this.page.locator('.quick-input-list .monaco-list-row.focused').filter({ hasText: title }).first().waitFor();
    await this.press('Enter');
    await input.and(this.page.getByLabel('Folder path')).waitFor();
    await this.page.locator('.quick-input-list .monaco-list-row').first().waitFor();
    // The dialog may still be busy with the place that it proposes, and puts that into the input.
    while ((await input.inputValue()) !== path) {
      await input.fill(path);
      await this.page.waitForTimeout(500);
    }
    await this.press('Enter');
    await input.waitFor({ state: 'hidden' });
  }

  async openFile(name: string): Promise<void> {
    await this.quickInput('Control+p', name, name);
    await this.page.getByRole('tab', { name, selected: true }).waitFor();
  }

  async goToLine(line: number): Promise<void> {
    await this.quickInput('Control+g', String(line), `line ${line}`);
    await this.page.getByRole('button', { name: new RegExp(`^Ln ${line},`) }).waitFor();
  }

  async toggleBreakpoint(file: string, line: number): Promise<void> {
    await this.openFile(file);
    await this.goToLine(line);
    await this.press('F9');
    await this.page
      .locator('.margin .codicon-debug-breakpoint, .margin .codicon-debug-breakpoint-unverified')
      .first()
      .waitFor();
  }

  /** Presses F5; again if VS Code was not ready for it, for then it only shows the Run and Debug view. */
  async startDebugging(): Promise<void> {
    const toolbar = this.page.locator('.debug-toolbar');
    for (const timeout of [5_000, 5_000, WAIT]) {
      await this.press('F5');
      const started = await toolbar.waitFor({ timeout }).then(
        () => true,
        () => false,
      );
      if (started) return;
    }
    throw new Error('F5 started no session');
  }

  /**
   * The box that says why the machine stopped. VS Code on a busy computer may not select the frame by itself; it is
   * clicked then, as a person would.
   * @param frame the function that is on top of the call stack
   */
  async stopExplanation(frame: string): Promise<Locator> {
    const box = this.page.locator('.exception-widget');
    await this.page.locator('.debug-call-stack .stack-frame').filter({ hasText: frame }).waitFor();
    await box.waitFor({ timeout: 5_000 }).catch(() => {
      return this.page.locator('.debug-call-stack .stack-frame').filter({ hasText: frame }).click();
    });
    await box.waitFor();
    return box;
  }

  /** Clicks a button of the debug toolbar. */
  async toolbar(name: string): Promise<void> {
    await this.page.locator('.debug-toolbar').getByRole('button', { name }).click();
  }

  /** Presses a key that makes the machine run, and waits for the stop at a place. */
  async runTo(key: string, place: Place): Promise<void> {
    await this.press(key);
    await this.stoppedAt(place);
  }

  async stoppedAt({ file, line }: Place): Promise<void> {
    await this.page.getByRole('tab', { name: file, selected: true }).waitFor();
    const marks = '.margin .codicon-debug-stackframe, .margin .codicon-debug-breakpoint-stackframe';
    await this.page.locator(marks).waitFor();
    await this.page.getByRole('button', { name: new RegExp(`^Ln ${line},`) }).waitFor();
  }

  /** Ticks one of the kinds of stops that the Breakpoints view lists. */
  async tickStop(label: string): Promise<void> {
    await this.command('Focus on Breakpoints View');
    const row = this.page.getByRole('checkbox', { name: label, exact: true });
    await row.click();
    await this.press('Space');
    await row.and(this.page.locator('[aria-checked=true]')).waitFor();
  }

  /** Opens or closes a section of a side bar or panel. */
  async setSection(title: string, open: boolean): Promise<void> {
    const header = this.page.getByRole('button', { name: `${title} Section` });
    if ((await header.getAttribute('aria-expanded')) !== String(open)) await header.click();
    await this.page.locator(`[aria-label="${title} Section"][aria-expanded="${open}"]`).waitFor();
  }

  /** Drags the border above a section to a height on the page, in pixels. */
  async dragSection(title: string, y: number): Promise<void> {
    const header = await this.page.getByRole('button', { name: `${title} Section` }).boundingBox();
    if (!header) throw new Error(`${title} is not visible`);
    const borders = await this.page.locator('.sidebar .monaco-sash.horizontal').all();
    const boxes = await Promise.all(borders.map((border) => border.boundingBox()));
    const middles = boxes.flatMap((box) => (box ? [box.y + box.height / 2] : []));
    const [border] = middles.sort((a, b) => Math.abs(a - header.y) - Math.abs(b - header.y));
    const x = header.x + header.width / 2;
    await this.drag({ x, y: border ?? header.y }, { x, y });
  }

  /** Drags the side bar's inner border, in pixels. */
  async widenSideBar(by: number): Promise<void> {
    const bar = await this.page.locator('.part.sidebar').boundingBox();
    if (!bar) throw new Error('the side bar is not visible');
    const border = { x: bar.x + bar.width + 2, y: bar.y + bar.height / 3 };
    await this.drag(border, { x: border.x + by, y: border.y });
  }

  private async drag(from: { x: number; y: number }, to: { x: number; y: number }): Promise<void> {
    await this.page.mouse.move(from.x, from.y);
    await this.page.mouse.down();
    await this.page.mouse.move(to.x, to.y, { steps: 5 });
    await this.page.mouse.up();
  }

  async openPanel(title: string): Promise<void> {
    await this.page.locator('.panel').getByRole('tab', { name: title }).click();
  }

  /** The visible row of a tree whose accessible label begins so. */
  row(label: RegExp): Locator {
    return this.page.getByRole('treeitem', { name: label }).first();
  }

  /** Opens a row that has children. */
  async expand(label: RegExp): Promise<void> {
    const row = this.row(label);
    await row.click();
    if ((await row.getAttribute('aria-expanded')) === 'false') await this.press('ArrowRight');
    await this.page.locator('[role=treeitem][aria-expanded=true]').and(row).waitFor();
  }

  /** Closes a row that has children. */
  async collapse(label: RegExp): Promise<void> {
    const row = this.row(label);
    await row.click();
    if ((await row.getAttribute('aria-expanded')) === 'true') await this.press('ArrowLeft');
    await this.page.locator('[role=treeitem][aria-expanded=false]').and(row).waitFor();
  }

  /** Goes to a row of a view by typing its name, as trees of any length allow. */
  async findRow(view: string, name: string): Promise<Locator> {
    await this.command(`Focus on ${view} View`);
    await this.press('Home');
    await this.page.keyboard.type(name);
    const row = this.row(new RegExp(`^${name} `));
    await row.waitFor();
    return row;
  }

  /** Opens a page of memory. @param address as people type it */
  async showMemory(address: string): Promise<void> {
    await this.quickInput('F1', 'VMXray: Show Memory', 'VMXray: Show Memory', 'Show memory');
    await this.page.keyboard.type(address);
    await this.press('Enter');
    await this.page.getByRole('tab', { name: address, selected: true }).waitFor();
  }

  /** Enters a line in the debug console. */
  async enter(line: string): Promise<void> {
    await this.command('Debug Console: Focus on Debug Console View');
    await this.page.keyboard.type(line);
    await this.press('Escape', 'Enter');
  }

  /** The document that is shown as a page: webviews sit in two nested frames. */
  preview(): FrameLocator {
    return this.page.frameLocator('iframe.webview').frameLocator('#active-frame');
  }

  /** Chooses a command of a row's context menu, which takes no click right after it has opened. */
  async menu(row: Locator, command: string): Promise<void> {
    const item = this.page.getByRole('menuitem', { name: command });
    await row.click({ button: 'right' });
    await item.hover();
    await this.page.waitForTimeout(MENU_DELAY);
    await item.click();
    await item.waitFor({ state: 'hidden' });
  }

  /** A thread of the call stack whose text contains this. */
  thread(text: string | RegExp): Locator {
    const row = this.page.locator('.debug-call-stack .monaco-list-row').filter({ has: this.page.locator('.thread') });
    return row.filter({ hasText: text }).first();
  }

  /** A frame of the call stack, which its thread must show. */
  frame(name: string): Locator {
    return this.page.locator('.debug-call-stack .stack-frame').filter({ hasText: name }).first();
  }

  /** The same, when it is the one whose variables are shown. */
  selectedFrame(name: string): Locator {
    const row = this.page.locator('.debug-call-stack .monaco-list-row.selected');
    return row.filter({ has: this.page.locator('.stack-frame') }).filter({ hasText: name });
  }

  /** Shows a thread's frames. */
  async expandThread(text: string | RegExp): Promise<void> {
    const thread = this.thread(text);
    await thread.click();
    if ((await thread.getAttribute('aria-expanded')) === 'false') await this.press('ArrowRight');
    await thread.and(this.page.locator('[aria-expanded=true]')).waitFor();
  }

  /** The item of the status bar that says that this is the past. */
  inPast(): Locator {
    return this.page.getByRole('button', { name: /In the past: \d+ instructions ago/ });
  }

  /** Gives a value of a view another one, by the row's pencil. */
  async editRow(row: Locator, value: string): Promise<void> {
    await row.hover();
    await row.getByRole('button', { name: /Edit/ }).click();
    const input = this.page.locator('.quick-input-widget input[type=text]');
    await input.fill(value);
    await this.press('Enter');
    await input.waitFor({ state: 'hidden' });
  }

  /** A terminal in the list of several. */
  terminalTab(name: string): Locator {
    return this.page.locator('.terminal-tabs-entry').filter({ hasText: name });
  }

  /** Clicks a terminal in the list of several, which shows it. */
  async selectTerminal(name: string): Promise<void> {
    await this.terminalTab(name).click();
    await this.page.locator('.tabs-list .monaco-list-row.selected').filter({ hasText: name }).waitFor();
  }

  /** Types a line into the terminal that is shown. */
  async typeInTerminal(line: string): Promise<void> {
    await this.page.locator('.terminal-wrapper.active .xterm-screen').first().click();
    await this.page.keyboard.type(line);
    await this.press('Enter');
  }

  /** Waits until the terminal that is shown holds a text. @throws what it holds instead */
  async waitForTerminal(pattern: RegExp, wait = WAIT): Promise<void> {
    const end = Date.now() + wait;
    for (let text = ''; !pattern.test(text); ) {
      if (Date.now() > end) throw new Error(`no ${pattern} in the terminal:\n${text}`);
      const rows = await this.page.locator('.terminal-wrapper.active .xterm-rows > div').allInnerTexts();
      text = rows.map((row) => row.replaceAll('\u00a0', ' ').trimEnd()).join('\n');
    }
  }
}
