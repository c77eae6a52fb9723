// The sentences of the gateway about why a card is denied or not, in Chinese; of all others, see `sentences.js`. Names, times and
// numbers in them stay as they are.
import { inChinese } from "./sentences.js";
import { kind, language, t, withTimes } from "./words.js";

const FLAG = { lost: "挂失", frozen: "冻结", replaced: "换卡作废", cancelled: "注销" };
const ROLE = { resident: "住宿生", staff: "工作人员", visitor: "访客" };
const SUSPENDED = { arrears: "欠费", overload: "过载", restricted_load: "违规电器", maintenance: "检修" };
const flags = Object.keys(FLAG).join("|");
const roles = Object.keys(ROLE).join("|");
const of = (names) => (all) => all.split(", ").map((name) => names[name] ?? name).join("、");
const suspended = of(SUSPENDED);

/** Each a whole sentence, and what it is in Chinese. */
const SENTENCES = [
  [/^no office ever named this card$/, () => "没有任何部门登记过此卡"],
  [/^never issued$/, () => "从未发卡"],
  [/^issued to (.+)$/, (holder) => `已发给 ${holder}`],
  [new RegExp(`^never (${flags})$`), (name) => `从未${FLAG[name]}`],
  [new RegExp(`^(not )?(${flags})( any more)?(, as a card of its holder)?$`), (not, name, _, holder) => `${not ? "已解除" : "已"}${FLAG[name]}${holder ? "（随持卡人）" : ""}`],
  [/^never enrolled$/, () => "从未开通权限"],
  [/^the enrolment was withdrawn$/, () => "权限已撤回"],
  [new RegExp(`^(${roles}) ([^:]+):(.*)$`), (role, holder, rest) => `${ROLE[role]} ${holder}：${rest.replace(/\b(gate|door|power_box):/g, (_, name) => `${kind(name)} `)}`],
  [/^posture (\w+)(?: until (\S+))?$/, (posture, until) => `${t(`posture_${posture}`)}${until ? `，至 ${until}` : ""}`],
  [/^the clock shows (.+) and is (not )?trusted$/, (at, not) => `网关时钟为 ${at}，${not ? "不可信" : "可信"}`],
  [/^not suspended$/, () => "未停电"],
  [/^((?:arrears|overload|restricted_load|maintenance)(?:, \w+)*)$/, (all) => `停电：${suspended(all)}`],
  [new RegExp(`^(${roles}), (not )?suspended for maintenance$`), (role, not) => `${ROLE[role]}，${not ? "未" : "已"}因检修停电`],
  [/^wants (\w+)$/, (what) => `至少要求 ${what}`],
  [/^\S+ is (?:open|closed|not defined)(?:, \S+ is (?:open|closed|not defined))*$/, (all) => all.replace(/ is open/g, " 开放").replace(/ is closed/g, " 未开放").replace(/ is not defined/g, " 未定义").replaceAll(", ", "、")],
  [/^from (\S.*)$/, (at) => `自 ${at} 起`],
  [/^until (\S.*)$/, (at) => `至 ${at}`],
  [/^no passage of it in (\S+) is known$/, (zone) => `没有此卡在 ${zone} 的通行记录`],
  [/^last (in|out) at (\S+) at (.+?)( by a clock that was not trusted)? \((\w+), event (\d+)\)(; it does not count any more)?$/, (way, portal, at, clock, certain, n, forgiven) => `上次于 ${at}${clock ? "（当时时钟不可信）" : ""}在 ${portal} ${t(way)}（${certain}，事件 ${n}）${forgiven ? "，已不计" : ""}`],
  [/^no host has entered here; a visitor follows one within (\d+) s$/, (s) => `尚无接待人由此进入；访客须在其后 ${s} 秒内进入`],
  [/^a host entered (\d+) s ago; a visitor follows within (\d+) s$/, (ago, s) => `接待人 ${ago} 秒前进入；访客须在其后 ${s} 秒内进入`],
  [/^wants two cards within (\d+) s; no first one waits$/, (s) => `须在 ${s} 秒内刷两张卡；尚无第一张`],
  [/^the card of (\S+) waits for a second one for (\d+) s more$/, (holder, s) => `${holder} 的卡在等待第二张卡，还有 ${s} 秒`],
  [/^all doors of the interlock are closed$/, () => "互锁的各门均已关闭"],
  [/^(\S+) is open or released$/, (door) => `${door} 正开着或已被释放`],
  [/^its UID exists twice with the office's knowledge \(second_token\): not judged$/, () => "卡务中心已登记同号的第二张卡（second_token），不作判断"],
  [/^(\S+) shows the card in it$/, (box) => `${box} 显示此卡在其中`],
  [/^granted at (\S+) (\d+) s ago, from where the way takes (\d+) s$/, (at, ago, s) => `${ago} 秒前在 ${at} 通过，两地步行需 ${s} 秒`],
  [/^in no other box, and no walking time is undercut$/, () => "不在其他取电盒中，步行时间也合理"],
  [/^(\d+) denials within (\d+) s; locked out for (\d+) s more$/, (n, s, left) => `${s} 秒内被拒 ${n} 次；还将锁定 ${left} 秒`],
  [/^(\d+) of (\d+) denials within (\d+) s$/, (n, most, s) => `${s} 秒内被拒 ${n} 次（上限 ${most} 次）`],
];

/** A sentence of the gateway, in this person's language where it is a known one; its times as all others. */
export function said(sentence) {
  if (!sentence || language() !== "zh") return withTimes(sentence);
  for (const [whole, words] of SENTENCES) {
    const found = whole.exec(sentence);
    if (found) return withTimes(words(...(found.length > 1 ? found.slice(1) : [found[0]])));
  }
  return withTimes(inChinese(sentence) ?? sentence);
}
