// The console's script. Everything works without it but what is live: this file only wires the parts together.
import { tick } from "./times.js";
import { keepTyping, sendForms } from "./forms.js";
import { queue } from "./queue.js";
import { keys } from "./keys.js";
import { charts } from "./chart.js";
import { fragments } from "./fragments.js";
import { live } from "./live.js";

tick();
keepTyping(document);
sendForms();
charts();
fragments();
queue();
keys();
live();
