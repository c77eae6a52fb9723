// What is wrong with a sheet, in Chinese where it is one of the closed set of faults, and with the names that these pages have for what
// the command line has as options. Values, names and numbers stay as they are; a sentence that is not here stays in English.
import { language, t } from "./words.js";

const AS_TEXT = "请先将该列设为“文本”格式，再填入数值并重新导出";
const quoted = "(`[^`]*`)";
/** Each a part of a sentence from its beginning on, and its Chinese. */
const FAULTS = [
  [/^the file is empty;/, () => "文件为空；首行应为列名，如 uid,holder,gate"],
  [/^the list is empty,/, () => "名单为空，所有卡将被取消开通；请在首行之下填写可开门的卡"],
  [/^this is a workbook/, () => "这是电子表格工作簿；请另存为“CSV UTF-8”后选择该文件"],
  [/^this is UTF-16/, () => "这是 UTF-16 或不是文本；请另存为“CSV UTF-8”后选择该文件"],
  [/^the file begins as UTF-8|^the line is neither|^a character was lost/, () => "字符编码有误；请将整个表格重新另存为“CSV UTF-8”"],
  [/^(\d+) bytes are too many, (\d+)/, (n, most) => `文件有 ${n} 字节，最多 ${most} 字节；请分开载入`],
  [/^more than (\d+) rows;/, (n) => `超过 ${n} 行；请按楼栋分别载入`],
  [/^more than (\d+) characters;/, (n) => `单元格超过 ${n} 个字符；是否有未配对的双引号？`],
  [/^the line has (\d+) cells and the first line (\d+)/, (n, head) => `此行有 ${n} 个单元格，首行有 ${head} 个；含分隔符或换行的单元格请用双引号括起，并使引号配对`],
  [/^the column (`.*`) means the same/, (name) => `与 ${name} 列含义相同；请删除其一`],
  [/^this may be the number printed/, () => "这可能是卡面印刷号，而不是物理卡号；若确为十六进制物理卡号，请将该列命名为“物理卡号”"],
  [/^the column has no name/, () => "该列没有列名；请命名或删除"],
  [/no column has this name, (?:did you mean (`.*?`)\?)?/, (near) => `没有此列名${near ? `，是否应为 ${near}` : ""}；若不需要，请填入“${t("ignore_columns")}”`],
  [/^there is no column (`.*?`); one of (.*) is wanted$/, (name, all) => `缺少 ${name} 列；列名可为 ${all}`],
  [/^no column names what a card opens/, () => "没有任何权限列；请添加闸机、房门、取电箱或权限列"],
  [/^the time it ends, (\S+), is not after the time it begins, (\S+);/, (to, from) => `失效时间 ${to} 不晚于生效时间 ${from}；请更正其一`],
  [/^card (\S+) stands on line (\d+) already/, (uid, line) => `卡 ${uid} 已在第 ${line} 行；每张卡只占一行，写全其权限`],
  [/^the row opens nothing/, () => "此行没有任何权限；请在权限列填写区域或 *，不开任何门则填 -，或删除此行"],
  [/^no UID in the column (`.*`) has a letter/, (name) => `${name} 列的卡号都没有字母 A 至 F，应为十进制；请将读卡器或导出设为十六进制，按卡发送字节的顺序`],
  [new RegExp(`^${quoted} has the full-width character ${quoted}; write ${quoted}`), (text, c, narrow) => `${text} 含全角字符 ${c}；请改为 ${narrow}`],
  [/^there is an invisible character in it, (\S+);/, (code) => `含不可见字符 ${code}；请清空该单元格后重新输入`],
  [/^(`.*`) is written for a spreadsheet/, (text) => `${text} 是电子表格的写法；请去掉 =、' 和 "`],
  [/^(`.*`) is an error that a spreadsheet shows/, (text) => `${text} 是电子表格的错误值；请修正表格`],
  [/^(`.*`) is what a spreadsheet makes of a long number/, (text) => `${text} 是电子表格对长数字的改写，末位已丢失；${AS_TEXT}`],
  [/^(`.*`) is what a spreadsheet makes of the text (`.*`);/, (text, was) => `${text} 是电子表格对 ${was} 的改写；${AS_TEXT}`],
  [/^(`.*`) is what a spreadsheet makes of a room/, (text) => `${text} 是电子表格对 4-12 之类房号的改写；${AS_TEXT}`],
  [/^(`.*`) is a spreadsheet's number for (\S+);/, (text, date) => `${text} 是电子表格中 ${date} 的序号；请将该列设为 ${date} 这样的日期格式后重新导出`],
  [/^is empty; fill it in/, () => "此单元格为空；请填写"],
  [/^(`.*`) has (\d+) digits, and a UID/, (text, n) => `${text} 有 ${n} 位；十六进制卡号应为 8、14 或 20 位（若首位的 0 丢失：${AS_TEXT}）`],
  [/^(`.*?`) is not a card UID/, (text) => `${text} 不是卡号；请刷卡并填写 8、14 或 20 位十六进制`],
  [/^(`.*?`) begins with 08/, (uid) => `${uid} 以 08 开头：手机的随机号，每次读取都不同；请改用实体卡`],
  [/^(`.*?`) begins with 88/, (uid) => `${uid} 以 88 开头：读卡器截断了较长的卡号；请用能读出 7 字节的读卡器`],
  [/^(`.*?`) is a UID that makers give/, (uid) => `${uid} 是厂商测试卡与复制卡常用的卡号；请换发一张卡`],
  [/^(`.*?`) is no role;/, (text) => `${text} 不是身份；请填写住宿生、职工或访客`],
  [/^(`.*?`) is no mark of a card;/, (text) => `${text} 不是标记；请填写第二凭证、延长开门或胁迫`],
  [/^(\d+) zones are too many, (\d+)/, (n, most) => `${n} 个区域过多，最多 ${most} 个；* 表示全部`],
  [/^(`.*?`) is no entitlement;/, (text) => `${text} 不是权限；应为 类型:区域 或 类型:区域:时段，如 door:412:term`],
  [/^(`.*?`) is no kind of portal;/, (text) => `${text} 不是通道类型；请填写闸机、房门或取电箱`],
  [/^(`.*?`) is no zone;/, (text) => `${text} 不是区域；请填写通道所属区域的名称：* 表示全部，- 表示没有`],
  [/^an identifier is 1 to 64/, () => "应为 1 至 64 个字母、数字、_ 或 -，且以字母或数字开头"],
  [/^(`.*?`) does not exist or exists twice/, (text) => `${text} 因调整时钟而不存在或重复；请写成 2026-09-01T08:00:00+08:00`],
  [/^(`.*?`) is before 2000-01-01/, (text) => `${text} 早于 2000-01-01；请写成 2026-09-01 或 2026-09-01 08:00`],
  [/^(`.*?`) is not a time;/, (text) => `${text} 不是时间；请写成 2026-09-01 或 2026-09-01 08:00`],
];

/** What is wrong at one place, and what to do. */
export function faultWords(what) {
  if (language() === "zh") {
    for (const [part, words] of FAULTS) {
      const found = part.exec(what);
      if (found) return words(...found.slice(1));
    }
  }
  return what.replace(/`--ignore [^`]*`/g, `“${t("ignore_columns")}”`).replaceAll("`--allow-shrink`", `“${t("allow_shrink")}”`);
}

/** What the center answers about a sheet: its sentence has the first of the faults. */
export function refusedWords(message, [{ line, column, what }, ...others]) {
  if (language() !== "zh") return faultWords(message);
  const place = [line && `第 ${line} 行`, column && `${column} 列`].filter(Boolean).join("，");
  return `${place ? `${place}：` : ""}${faultWords(what)}${others.length > 0 ? `（另有 ${others.length} 处）` : ""}`;
}
