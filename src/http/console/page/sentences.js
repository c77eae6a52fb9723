// The sentences of the gateway about alarms, its state and orders, in Chinese. Names, times, figures, the keys of a file, and what a
// device, a center or the operating system wrote stay as they are. A test compares these with what the gateway raises: each expression
// begins with `/^` and ends with `$/,` in one line.
import { meaning, refusal, t } from "./words.js";

const FLAG = { lost: "挂失", frozen: "冻结", replaced: "换卡作废", cancelled: "注销" };

const SENTENCES = [
  // Doors
  [/^the door opened and nobody had released it$/, () => "门被打开，但无人放行"],
  [/^the door stays open$/, () => "门一直开着"],
  [/^the door is closed again$/, () => "门已关好"],
  [/^the housing is open$/, () => "设备外壳被打开"],
  [/^the housing is closed again$/, () => "设备外壳已关好"],
  [/^the relay is on and nothing released it; it was ordered off$/, () => "无人放行而继电器接通，已下令断开"],
  [/^the relay stays on although it was ordered off: the door can be opened; look at its relay$/, () => "已下令断开，继电器仍接通：此门可以打开，请检查继电器"],
  [/^the relay is off again$/, () => "继电器已断开"],
  [/^a release was not confirmed: (.+)$/, (why) => `放行未得到确认：${part(why)}`],
  [/^a release was confirmed again$/, () => "放行已恢复确认"],
  // Cards
  [/^a dead card was presented: (\w+)$/, (flag) => `出示了已作废的卡：${FLAG[flag] ?? flag}`],
  [/^the card is marked as one that is presented under duress: send help; nothing showed at the portal$/, () => "此卡为胁迫卡：请派人支援；通道上没有任何显示"],
  [/^(\d+) denials within (\d+) s$/, (n, s) => `${s} 秒内被拒 ${n} 次`],
  [/^(\d+) denials within (\d+) s; everybody is denied here for (\d+) s, except on the way out$/, (n, s, out) => `${s} 秒内被拒 ${n} 次；此处 ${out} 秒内一律拒绝进入，外出不受限制`],
  [/^the card was read here (\d+) s after it was granted at `([^`]+)`, from where the way takes (\d+) s: one of the two is a copy$/, (ago, at, s) => `此卡 ${ago} 秒前在 ${at} 通过，两地步行需 ${s} 秒：其中一张是复制卡`],
  [/^the card was read here while it lies in `([^`]+)`: one of the two is a copy$/, (box) => `此卡正插在 ${box} 中，却在此处被读到：其中一张是复制卡`],
  [/^more than (\d+) cards raised this here in (\d+) min; of the last: (.+)$/, (n, min, last) => `${min} 分钟内此处有超过 ${n} 张卡触发此告警；最后一张：${part(last)}`],
  // Power boxes
  [/^the box reports a card that may not have power: (\w+)$/, (why) => `取电盒报告了无权取电的卡：${meaning(why)}`],
  [/^the box reports a card that may not have power: (\w+); (.+)$/, (why, read) => `取电盒报告了无权取电的卡：${meaning(why)}；${read}`],
  [/^another card took the place of the one that the box was on by, and may not have power: (\w+)$/, (why) => `盒中换成了另一张无权取电的卡：${meaning(why)}`],
  [/^the relay is on and no permitted card is in the box; it was ordered off$/, () => "盒中没有有效卡而继电器接通，已下令断电"],
  [/^a load of (\d+) W although the box is off; it was ordered off again: look for a bridge or a stuck relay$/, (w) => `取电盒已断电，却仍有 ${w} W 负载；已再次下令断电，请检查是否被短接或继电器粘连`],
  [/^`([^`]+)` was on when it left the configuration: its relay was not switched; switch it off by hand, or configure it again$/, (box) => `${box} 从配置中移除时仍在通电，继电器未动作；请手动断电，或重新加入配置`],
  [/^its input `(\w+)` is active; trip (\d+) of (\d+) in 24 h: (.+)$/, (input, n, most, next) => `输入 ${input} 动作；24 小时内第 ${n} 次跳闸（上限 ${most} 次）：${part(next)}`],
  [/^its power rose by (\d+) W at once, more than `restricted_step_w` = (\d+); trip (\d+) of (\d+) in 24 h: (.+)$/, (w, step, n, most, next) => `功率瞬间上升 ${w} W，超过 restricted_step_w = ${step}；24 小时内第 ${n} 次跳闸（上限 ${most} 次）：${part(next)}`],
  [/^its meter measures (\d+) W, more than `overload_w` = (\d+) for (\d+) s; trip (\d+) of (\d+) in 24 h: (.+)$/, (w, limit, s, n, most, next) => `电表读数 ${w} W，超过 overload_w = ${limit} 达 ${s} 秒；24 小时内第 ${n} 次跳闸（上限 ${most} 次）：${part(next)}`],
  [/^it stays off until `resume_power` or the command `power` on$/, () => "保持断电，直到中心恢复供电（resume_power）或下令通电"],
  [/^it is switched on again in (\d+) s if its card is still there$/, (s) => `若卡仍在盒中，${s} 秒后重新通电`],
  [/^the box may be on again$/, () => "取电盒可以重新通电"],
  [/^the relay went off without an order and is not switched on again \((.+)\); look at its fuse and supply, then put the card in again$/, (why) => `继电器未经指令而断开，且不再自动接通（${part(why)}）；请检查保险丝与电源，再重新插卡`],
  [/^a command switches on once$/, () => "指令只通电一次"],
  [/^its card was reported, not put in$/, () => "卡是盒子所报告的，并非插入"],
  [/^(\d+) times in (\d+) min is enough$/, (n, min) => `${min} 分钟内已接通 ${n} 次`],
  [/^the box is on$/, () => "取电盒已通电"],
  [/^its relay was off; switched on again$/, () => "继电器曾断开，已重新接通"],
  [/^the box was ordered off because card (.+) was revoked, and has not confirmed that its relay is off; it is ordered off again; go there and look$/, (uid) => `因卡 ${uid} 被撤销已下令断电，但继电器未确认断开；已再次下令，请到场查看`],
  [/^its relay is off now$/, () => "继电器现已断开"],
  [/^it is on by right now$/, () => "现在是有权通电"],
  [/^what was revoked there is off now$/, () => "被撤销者的供电现已断开"],
  [/^the configuration names no such box any more$/, () => "配置中已没有此取电盒"],
  // Fire
  [/^fire input active: gates and doors are released until every input is clear and an operator resets the latch$/, () => "火警输入动作：闸机与房门已释放，直到所有输入解除并由负责人复位"],
  [/^fire reported by a portal with `fire_input = false`: nothing is released$/, () => "此通道设置了 fire_input = false，其火警不释放任何门"],
  [/^an operator reset the fire latch$/, () => "负责人已复位火警"],
  // Portals that do not answer
  [/^the portal answers again$/, () => "通道已恢复应答"],
  [/^its last will was sent$/, () => "设备已断线（收到遗嘱消息）"],
  [/^the broker of (\d+) portal\(s\) is not connected \((.+)\); nothing reaches them$/, (n, why) => `${n} 个通道的消息代理未连接（${ifKnown(why)}），无法向其发送任何指令`],
  [/^the broker of the portals is connected again$/, () => "通道的消息代理已重新连接"],
  [/^the (?:local )?broker refuses the subscription to `([^`]+)`; check its access rules$/, (topic) => `消息代理拒绝订阅 ${topic}，请检查其访问规则`],
  [/^the local broker cannot be reached: (.+)$/, (why) => `无法连接本地消息代理：${ifKnown(why)}`],
  [/^`([^`]+)` reports that it is not connected; check its power and its network$/, (topic) => `${topic} 报告设备未连接，请检查其电源与网络`],
  [/^a message came on `([^`]+)`, but could not be read: (.+); compare the version and the MQTT settings of the device with its profile$/, (topic, why) => `收到 ${topic} 的消息但无法解析（${why}）；请核对设备版本及其 MQTT 设置与配置模板`],
  [/^nothing came on `([^`]+)` within (\d+) ms; check the name `([^`]+)`, the profile, and the power and MQTT settings of the device$/, (topic, ms, name) => `${ms} 毫秒内未收到 ${topic} 的消息；请检查名称 ${name}、配置模板以及设备的电源与 MQTT 设置`],
  [/^its messages came faster than the portal took them$/, () => "设备消息过多，来不及处理"],
  [/^its controller has sent no request for (\d+) s$/, (s) => `控制器已 ${s} 秒没有发来请求`],
  [/^unit (\d+) on `([^`]+)`: (.+)$/, (unit, bus, why) => `总线 ${bus} 的 ${unit} 号设备：${part(why)}`],
  [/^unit (\d+) on `([^`]+)` answers every request with (.+)$/, (unit, bus, what) => `总线 ${bus} 的 ${unit} 号设备对每个请求均应答${part(what)}`],
  [/^exception (\d+)(?: \((.+)\))?$/, (n, what) => `异常码 ${n}${what ? `（${what}）` : ""}`],
  [/^no answer within (\d+) ms; check power, wiring and unit number$/, (ms) => `${ms} 毫秒内无应答；请检查电源、接线与设备编号`],
  [/^no whole answer within (\d+) ms: (\d+) bytes came, beginning with `([^`]*)`, and are no frame with a right checksum; check speed, parity and wiring$/, (ms, n, bytes) => `${ms} 毫秒内没有完整应答：收到 ${n} 字节（开头为 ${bytes}），校验不符；请检查波特率、奇偶校验与接线`],
  [/^no answer within (\d+) ms, only the adapter's echo of the request; check power, wiring and unit number$/, (ms) => `${ms} 毫秒内无应答，只收到适配器回送的请求；请检查电源、接线与设备编号`],
  [/^only unit (\d+) answered within (\d+) ms, unit (\d+) was asked$/, (other, ms, unit) => `询问 ${unit} 号设备，${ms} 毫秒内只有 ${other} 号应答`],
  [/^no answer within (\d+) ms, only one of function (\d+)$/, (ms, f) => `${ms} 毫秒内无应答，只收到功能码 ${f} 的应答`],
  [/^no answer within (\d+) ms, only one with another transaction number; if the device never repeats the number, set `any_transaction = true` in its `\[\[bus\]\]`$/, (ms) => `${ms} 毫秒内无应答，只收到事务号不符的应答；若设备从不回送事务号，请在其 [[bus]] 中设置 any_transaction = true`],
  [/^no line to `([^`]+)`: (.+)$/, (line, why) => `线路 ${line} 不通：${part(why)}`],
  [/^it cannot be opened: (.+); check power, cable and the line in its `\[\[bus\]\]`$/, (why) => `无法打开（${why}）；请检查电源、线缆及其 [[bus]] 中的线路`],
  [/^it closes every connection at once; check whether it serves another client$/, () => "对方立即关闭每个连接，请检查它是否正被其他客户端占用"],
  [/^it does not fall silent: another master sends on it, or it is disturbed$/, () => "线路一直有信号：有另一个主站在发送，或受到干扰"],
  [/^the connection ended: (.+)$/, (why) => `连接中断：${why}`],
  [/^the reply is malformed$/, () => "应答格式有误"],
  [/^the reply is of function (\d+), asked was (\d+)$/, (got, asked) => `应答的功能码为 ${got}，所请求的是 ${asked}`],
  [/^the reply has (\d+) bytes, (\d+) are wanted$/, (got, wanted) => `应答为 ${got} 字节，应为 ${wanted} 字节`],
  [/^the reply confirms another write than was sent$/, () => "应答所确认的写入与所发送的不符"],
  [/^the device refuses: (.+)$/, (why) => `设备拒绝：${why}`],
  [/^sent, but (.+)$/, (why) => `已发送，但${part(why)}`],
  [/^not sent: it waited longer than its deadline$/, () => "未发送：等待超时"],
  [/^not sent: (\d+) requests wait for the line$/, (n) => `未发送：已有 ${n} 个请求在等待线路`],
  [/^not sent: (.+)$/, (why) => `未发送：${part(why)}`],
  [/^unit (\d+) answered, unit (\d+) was asked$/, (other, unit) => `询问 ${unit} 号设备，应答的是 ${other} 号`],
  [/^the bytes received are no Modbus TCP frame$/, () => "收到的字节不是 Modbus TCP 帧"],
  [/^it did not answer just now$/, () => "设备刚才没有应答"],
  [/^the line has been shut down$/, () => "线路已停用"],
  [/^the device fell silent before it was confirmed$/, () => "确认之前设备已无应答"],
  [/^the relay could not be switched off first, within the deadline$/, () => "未能在时限内先断开继电器"],
  [/^the relay was switched on but cannot be read back$/, () => "已接通继电器，但读不到其状态"],
  [/^the relay was switched off but cannot be read back$/, () => "已断开继电器，但读不到其状态"],
  [/^the relay reads on after it was switched off$/, () => "断开之后继电器仍读为接通"],
  [/^the relay reads off after it was switched on$/, () => "接通之后继电器仍读为断开"],
  [/^the relay reads off after it took the pulse$/, () => "发出脉冲之后继电器仍读为断开"],
  [/^its pulse may be over before it could be read back$/, () => "脉冲可能在读取之前已结束"],
  [/^it still waits for the line$/, () => "仍在等待线路"],
  [/^not confirmed within (\d+) ms$/, (ms) => `${ms} 毫秒内未确认`],
  [/^too many outputs of its supply wait to be switched on: its turn would come in more than (\d+) ms$/, (ms) => `同一供电回路等待接通的输出过多，还要等 ${ms} 毫秒以上`],
  [/^not published: `([^`]+)` is offline$/, (device) => `未发布：${device} 离线`],
  [/^not published: (.+)$/, (why) => `未发布：${ifKnown(why)}`],
  [/^too many messages wait for the broker$/, () => "等待消息代理的消息过多"],
  [/^the latch of the reader does not clear: (.+); take away a card that lies there, restart the reader, and compare `release` in its profile with its manual$/, (why) => `读卡器的锁存未清除（${part(why)}）；请拿开放在上面的卡，重启读卡器，并对照手册检查配置模板中的 release`],
  [/^it cannot be released: (.+)$/, (why) => `无法复位：${part(why)}`],
  [/^it is still set (\d+) ms after it was released$/, (ms) => `复位 ${ms} 毫秒后仍未清除`],
  [/^more than (\d+) wrong fields or messages within (\d+) s; the last: (.+)$/, (n, s, last) => `${s} 秒内有超过 ${n} 个错误字段或消息；最后一个：${last}`],
  // The list
  [/^the list is whole$/, () => "名单已完整"],
  [/^the list is incomplete until message ([\d.]+) of (\S+) arrives$/, (at, stream) => `在收到 ${stream} 的消息 ${at} 之前，名单不完整`],
  [/^the store lost a part of the list of ([^;]+); nothing is granted until they are sent again: if the center of one sends nothing, have it publish a head, or remove the stream from the configuration$/, (streams) => `存储丢失了 ${streams} 的部分名单；重新收到之前一律拒绝。若其中某个中心不发送，请让它发布 head，或从配置中删除该流`],
  [/^the list of (\S+) still differs from its center's after a snapshot at ([\d.]+); flags set here that the center has not are never dropped: `center compare --cards` names the cards; order each flag again, or take it back$/, (stream, at) => `收到全量名单 ${at} 之后，${stream} 的名单仍与中心不一致；本地有而中心没有的挂失等标记不会丢弃：请用 center compare --cards 列出这些卡，再逐一重新下达或撤销`],
  [/^cards (.+) are one and the same to the reader of (.+) \((.+)\): none of them is let in there; give one of the holders another card, or the portal a reader that gives whole UIDs$/, (cards, portals, how) => `卡 ${cards} 在 ${portals} 的读卡器（${how}）上无法区分，均不放行；请为其中一位持卡人换卡，或更换能读出完整卡号的读卡器`],
  [/^(\d+) more groups of cards fall together at lossy readers since the same message; the audit names a card when it is denied `ambiguous_identifier`$/, (n) => `同一消息之后，另有 ${n} 组卡在读卡器上无法区分；被拒绝时（ambiguous_identifier）记录中会写明是哪张卡`],
  [/^snapshot of (\S+) ([\d.]+): (.+)$/, (stream, at, why) => `${stream} 的全量名单 ${at} 有误：${why}`],
  [/^card `([^`]+)` is given to `([^`]+)` and to `([^`]+)` in one message; compare the cards$/, (uid, one, other) => `同一消息把卡 ${uid} 同时发给 ${one} 与 ${other}，请核对`],
  [/^card `([^`]+)` is issued to `([^`]+)` and enrolled for `([^`]+)`; if the card was given to another person, withdraw it: until then it opens what `[^`]+` was enrolled for\. If it is one person, compare the ids$/, (uid, one, other) => `卡 ${uid} 发给 ${one}，权限却开给 ${other}；若此卡已转给他人，请撤回权限，否则仍可使用 ${other} 的权限；若是同一人，请核对编号`],
  // The clock
  [/^the wall clock shows a time before the latest trusted one, or an implausible one; dates are judged by `policy\.untrusted_clock` until it is set, agrees with a center, or `dormgate clock trust` is called$/, () => "时钟早于最近一次可信时间，或明显不合理；在校准、与中心一致或执行 dormgate clock trust 之前，日期按 policy.untrusted_clock 判断"],
  [/^the wall clock is trusted again$/, () => "时钟已恢复可信"],
  [/^the system last synchronised its clock at (\S+), more than a day ago; look at its network and `timedatectl timesync-status`$/, (at) => `系统上次同步时钟为 ${at}，已超过一天；请检查网络及 timedatectl timesync-status`],
  [/^the system synchronised its clock$/, () => "系统已同步时钟"],
  // The store
  [/^the store is written again$/, () => "存储已恢复写入"],
  [/^the store was damaged: events (\d+) to (\d+) are lost; nothing is granted until the list is whole$/, (from, to) => `存储曾损坏：事件 ${from} 至 ${to} 已丢失；名单完整之前一律拒绝`],
  [/^the audit is at its hard limit and the center has not acknowledged it: decisions go first, revocations last; look whether the center takes the audit$/, () => "记录已达上限而中心尚未确认：先删除判定，最后删除撤销；请检查中心是否接收记录"],
  [/^the store cannot be written \(`journal\/acked`: (.+?)\); decisions and acknowledgements go on, but a start sends events again; check the disk and `data_dir`$/, (why) => `存储无法写入 journal/acked（${why}）；判定与确认继续，但重启后会重发事件；请检查磁盘与 data_dir`],
  [/^the store cannot be written \((.+?)\); decisions go on, nothing is acknowledged; make the disk writable$/, (why) => `存储无法写入（${why}）；判定继续，但不向中心确认；请使磁盘可写`],
  [/^the store cannot be written \((.+?)\); decisions go on, nothing is acknowledged; put back what was there, or stop the gateway, restore a backup with `dormgate restore` and start it$/, (why) => `存储无法写入（${why}）；判定继续，但不向中心确认；请放回原来的目录，或停止网关、以 dormgate restore 恢复备份后再启动`],
  [/^a write to the store has been under way for (\d+) ms: the disk does not answer; decisions go on, nothing is acknowledged; look at the disk and what the kernel reports of it \(`dmesg`\)$/, (ms) => `写入存储已持续 ${ms} 毫秒：磁盘没有响应；判定继续，但不向中心确认；请检查磁盘及内核报告（dmesg）`],
  [/^a generation could not be written: (.+)$/, (why) => `无法写入名单存档：${why}`],
  [/^the disk is full: the reserve file was removed for what waits; make room, there is no other reserve$/, () => "磁盘已满：已删除预留文件以写入等待的内容；请清理空间，没有其他预留"],
  [/^the disk is full; the reserve file was removed to start; make room$/, () => "磁盘已满；为启动已删除预留文件，请清理空间"],
  [/^generation `([^`]+)` is damaged \((.+)\); it was moved to `damaged\/`$/, (name, why) => `名单存档 ${name} 已损坏（${why}），已移至 damaged/`],
  [/^generation `([^`]+)` cannot be read now \((.+)\); free some space or check the disk$/, (name, why) => `名单存档 ${name} 目前无法读取（${why}）；请清理空间或检查磁盘`],
  [/^`([^`]+)` ended in (\d+) bytes of an unfinished write that was never reported durable; removed$/, (file, n) => `${file} 末尾有 ${n} 字节未完成且从未确认的写入，已删除`],
  [/^bytes (\d+) to (\d+) of `([^`]+)` are damaged; a copy of it is kept in `damaged\/`$/, (from, to, file) => `${file} 的第 ${from} 至 ${to} 字节已损坏，副本保存在 damaged/`],
  [/^`([^`]+)` cannot be read \((.+)\); check the disk$/, (file, why) => `${file} 无法读取（${why}），请检查磁盘`],
  [/^event (\d+) could not be applied: (.+)$/, (n, why) => `事件 ${n} 无法生效：${why}`],
  [/^event (\d+) comes after one of the same or a higher number; not applied$/, (n) => `事件 ${n} 之前已有相同或更大的编号，未生效`],
  [/^event (\d+) does not follow from the one before it: one of them was edited$/, (n) => `事件 ${n} 与前一事件不衔接：其中之一被改动`],
  [/^events (\d+) to (\d+) are lost$/, (from, to) => `事件 ${from} 至 ${to} 已丢失`],
  [/^events (\d+) to (\d+) are lost to the audit; the state holds their effects$/, (from, to) => `事件 ${from} 至 ${to} 已不在记录中，但其结果仍有效`],
  [/^events (\d+) to (\d+) are lost, as a `log_gap` already records$/, (from, to) => `事件 ${from} 至 ${to} 已丢失，记录中已有说明（log_gap）`],
  [/^`journal\/durable` is damaged or missing$/, () => "journal/durable 已损坏或不存在"],
  [/^`([^`]+)` has events in clear after encrypted ones: whoever wrote them did not have the key; they are not applied$/, (file) => `${file} 在加密事件之后有未加密的事件：写入者没有密钥，这些事件未生效`],
  [/^`([^`]+)` is damaged or none of the gateway's \((.+)\); nothing in it counts; look at it and move it away$/, (file, why) => `${file} 已损坏或不属于网关（${why}），其内容无效；请查看并移走`],
  // What is not ready
  [/^starting$/, () => "正在启动"],
  [/^stopping$/, () => "正在停止"],
  [/^the operator's socket `([^`]+)` cannot be made: (.+); until then `dormgate status` and other commands cannot reach this gateway; make the disk writable$/, (socket, why) => `无法建立操作接口 ${socket}（${why}）；在此之前 dormgate status 等命令无法连接网关；请使磁盘可写`],
  [/^link (\S+): (.+)$/, (link, why) => `连接 ${link}：${ifKnown(why)}`],
  // Brokers
  [/^the broker rejects every subscription, so nothing arrives; check its access rules$/, () => "消息代理拒绝全部订阅，收不到任何消息；请检查其访问规则"],
  [/^the broker rejects the subscription to `([^`]+)`; check its access rules$/, (topic) => `消息代理拒绝订阅 ${topic}，请检查其访问规则`],
  [/^the broker closes connections before CONNACK, (\d+) times in a row; it may (?:keep no retained messages, which the last will is \(mosquitto: `retain_available true`\), )?want TLS or not want it, or want another `client_id`: see its log$/, (n) => `消息代理在 CONNACK 之前连续 ${n} 次关闭连接：可能不支持保留消息（mosquitto：retain_available true）、TLS 要求不符或 client_id 不符，请查看其日志`],
  [/^the broker grants QoS 0 for `([^`]+)`, where QoS 1 was asked for: messages are lost while the gateway is away, and resync brings them; allow QoS 1 at the broker, or set `session = "clean"`$/, (topic) => `消息代理对 ${topic} 只给 QoS 0（要求 QoS 1）：网关离线期间的消息会丢失，之后由重新同步补齐；请在消息代理允许 QoS 1，或设置 session = "clean"`],
  [/^connections end as soon as they are made: either another client uses the client id `([^`]+)` \(look for a second gateway with this `gateway\.id`, a copy of a box or a restored one, and stop it, or give one of them another `client_id`\), or the broker ends them for what is published: see its log$/, (id) => `连接一建立即被断开：或有另一客户端使用 client_id ${id}（请查找 gateway.id 相同的第二台网关、复制或恢复的设备，将其停止或改用其他 client_id），或消息代理因所发布的内容而断开，请查看其日志`],
  [/^the broker keeps sending what cannot be decoded, and each connection ends with it: look what serves this address, and what the log has as the reason$/, () => "消息代理不断发来无法解析的内容，连接因此断开：请检查此地址由什么程序提供服务，原因见日志"],
  [/^no answer to the subscriptions in (\d+) s; the next broker of `urls` is tried, or the same again$/, (s) => `${s} 秒内订阅无应答；改试 urls 中的下一个消息代理，或重试`],
  [/^no retained `head` came within (\d+) s of the connection: .+$/, (s) => `连接后 ${s} 秒内没有收到保留的 head：其间遗漏的变更要到下一个 head 或变更才会发现；请让消息代理保存保留消息（mosquitto：retain_available true、persistence true），或让中心发布第一个 head`],
  [/^the broker kept the session, and yet messages of (\S+) are missing from (\d+) on; they are asked for again\. .+$/, (stream, n) => `消息代理保留了会话，但 ${stream} 自 ${n} 起的消息缺失，已重新索取。请提高消息代理的 max_queued_messages，或检查中心是否已发布，或此处是否放回了旧的数据目录`],
  [/^(\S+) was asked (\d+) times for what follows ([\d.]+), and it does not come: .+$/, (stream, n, at) => `已向 ${stream} 索取 ${at} 之后的内容 ${n} 次，仍未收到：中心没有应答，或消息代理丢弃长消息（mosquitto：message_size_limit、max_packet_size；NATS：max_payload；至少 512 KiB）`],
  [/^the audit was sent again (\d+) times, every (\d+) s, and no center acknowledges it: .+$/, (n, s) => `记录已每 ${s} 秒重发一次，共 ${n} 次，仍没有中心确认：中心未连接，或消息代理丢弃批量消息（最大 64 KiB）`],
  [/^(.+); the TLS files as they were before are used until this is put right$/, (why) => `TLS 文件有误（${why}）；更正之前使用原来的文件`],
  [/^the broker does not answer pings$/, () => "消息代理不应答心跳"],
  [/^no answer within (\d+) s$/, (s) => `${s} 秒内无应答`],
  [/^the broker took no bytes for (\d+) s$/, (s) => `消息代理 ${s} 秒未接收数据`],
  [/^a message was not confirmed in (\d+) s$/, (s) => `消息 ${s} 秒内未确认`],
  // What is insecure
  [/^center\.stream (\S+): insecure_unsigned$/, (stream) => `中心的流 ${stream} 不要求签名（insecure_unsigned）`],
  [/^center\.stream (\S+): has a key of (\S+)$/, (stream, other) => `中心的流 ${stream} 与 ${other} 使用同一密钥`],
  [/^(\S+): (\S+) is not encrypted$/, (what, url) => `${what}：${url} 未加密`],
  [/^modbus_server: allow admits every address$/, () => "modbus_server 的 allow 允许所有地址"],
  // Cards and power in the audit
  [/^handed over from (\S+)$/, (card) => `由卡 ${card} 接替`],
  [/^read as `([^`]+)` \((.+)\)$/, (as, how) => `读作 ${as}（${how}）`],
  [/^read as `([^`]+)` \((.+)\), which no known card is$/, (as, how) => `读作 ${as}（${how}），名单中没有此卡`],
  [/^read as `([^`]+)` \((.+)\), which (.+) all are$/, (as, how, cards) => `读作 ${as}（${how}），${cards} 均如此`],
  [/^the first card within `free_access`: open to everybody from now on$/, () => "free_access 时段内的第一张卡：此后对所有人开放"],
  [/^no center has confirmed the list for `policy\.after_stale_s`$/, () => "已超过 policy.after_stale_s 没有中心确认名单"],
  [/^the wall clock cannot be trusted any more$/, () => "时钟已不可信"],
  // Orders
  [/^(\w+) by (\S+) of (\S+)$/, (what, who, stream) => `${stream} 的 ${who} 下令：${order(what)}`],
  [/^(\w+) by (\S+) of (\S+): (.+)$/, (what, who, stream, why) => `${stream} 的 ${who} 下令：${order(what)}，未执行：${refusal(why)}`],
  [/^(.+) by (.+) at the console$/, (what, who) => `${who} 在控制台${order(what)}`],
  [/^(.+?) by (.+?) at the console: (.+)$/, (what, who, why) => `${who} 在控制台${order(what)}，未执行：${refusal(why)}`],
  [/^alarms? (\d+(?: to \d+)?) acknowledged by (.+?)(?: at the console)?$/, (which, who) => `${who} 已处理告警 ${which.replace(" to ", " 至 ")}`],
];

/** An order, as the audit names it. */
function order(what) {
  const [, posture, where] = /^posture (\w+) at (.+)$/.exec(what) ?? [];
  if (posture) return `设置模式：${t(`posture_${posture}`)}（${where === "every portal" ? t("every_portal") : where}）`;
  const [, cards] = /^forgive (.+)$/.exec(what) ?? [];
  if (cards) return `${t("forgive")}（${cards === "all cards" ? t("all") : cards}）`;
  return { release: t("release"), "power on": t("power_on"), "power off": t("power_off"), "fire reset": t("fire_reset"), "fire reset --force": `${t("fire_reset")}（${t("fire_force")}）` }[what] ?? what;
}

function whole(sentence) {
  for (const [expression, words] of SENTENCES) {
    const found = expression.exec(sentence);
    if (found) return words(...found.slice(1));
  }
  return undefined;
}

/** A sentence in a sentence. */
const part = (text) => inChinese(text) ?? text;
/** One that may be the operating system's. */
const ifKnown = part;

/** A sentence, or several joined by `; `, in Chinese; `undefined`: it is not known here. */
export function inChinese(sentence) {
  const all = whole(sentence);
  if (all) return all;
  for (let at = sentence.indexOf("; "); at > 0; at = sentence.indexOf("; ", at + 2)) {
    const first = whole(sentence.slice(0, at));
    const rest = first && inChinese(sentence.slice(at + 2));
    if (rest) return `${first}；${rest}`;
  }
  return undefined;
}
