"""Clean texts in many languages: capitals, operators, quotes, currencies, guillemets, joiners. Nothing in them is to be mended."""

NBSP, NARROW, ZWJ, ZWNJ, ZWSP, RLM = "\xa0", "\u202f", "\u200d", "\u200c", "\u200b", "\u200f"
ENGLAND = "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f"
SCOTLAND = "\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f"
WALES = "\U0001f3f4\U000e0067\U000e0062\U000e0077\U000e006c\U000e0073\U000e007f"

CLEAN_TEXTS: dict[str, tuple[str, ...]] = {
    "English": (
        "An operator Â acting on the state |ψ⟩ gives Â|ψ⟩; the square Â² and the product Â·B̂ are operators too.",
        "The mean ⟨Â⟩ lies between 1 Å and 3.5 Å; the volume is 12 Å³ ± 0.2 Å³, and Å is no Ångström of ours.",
        "“It’s ‘fine’,” she said — then left… for £5, €7.50 or ¥900 (≈ 8 ¢ each) at 20 °C ± 1°.",
        f"Ω ≤ 5 kΩ, x² + y² ≠ z², ½ × ¾ = ⅜, 5′ 11″, naïve café façade, §{NBSP}4, ©{NBSP}2020 Mill®, Loaf™.",
        f"Scores: {ENGLAND} 2, {SCOTLAND} 1, {WALES} 0; 👨{ZWJ}👩{ZWJ}👧{ZWJ}👦, 👩🏽{ZWJ}💻, 🏳️{ZWJ}🌈, ❤️{ZWJ}🔥, 1️⃣ and #️⃣.",
    ),
    "Portuguese": (
        "CONSTITUIÇÃO À PÁTRIA: A IRMÃ VAI À MANHÃ… «IRMÃ», “MANHÃ”, MAÇÃ – NÃO, AMANHÃ—DEPOIS.",
        "O ângulo Â mede noventa graus, e o ângulo Ê mede trinta. A letra Ã no fim da palavra IRMÃ lê-se como em maçã.",
        f"Custa R$ 5,00 ou 3{NBSP}€. A palavra «LÃ»… é curta; a LÃ é cara; ‘LÃ’ rima com ‘MAÇÃ’. 1.ª edição, n.º 4, 30º andar.",
        "OS ÓRGÃOS, AS MÃES E OS PÃES: ATENÇÃO! É JÁ AMANHÃ. “Que manhã!” – disse ele. Está lá “já”… e «já»…",
    ),
    "Spanish": (
        "¿QUÉ? ¡NO! ESPAÑA Y PERÚ: EL AÑO, LA CIGÜEÑA, EL PINGÜINO. «¿Quién?» —preguntó él—, “nadie”…",
        f"La camioneta costó 1.500{NBSP}€, ¡un 20{NBSP}% más! Nº 5, 3.ª planta, 25 ºC. ¡¡ÚLTIMO DÍA!! «CAFÉ»… “CAFÉ”, CAFÉ².",
    ),
    "French": (
        f"L’ÉTÉ À LA PLAGE… «{NBSP}À la mode{NBSP}», dit-il{NARROW}: «{NBSP}É{NBSP}» n’est pas «{NBSP}È{NBSP}»{NARROW}!",
        f"Voilà{NBSP}: l’âme, où ça{NBSP}? ŒUVRE, cœur, Œdipe, naïf, Noël, GÎTE, ÇA, AÎNÉ – payé{NBSP}« à{NBSP}la carte{NBSP}» 5{NBSP}€.",
        f"Il a crié «{NBSP}hé{NBSP}»{NBSP}; l’écho a dit “hé”… puis ‘é’. Â, l’ÂNE, PÂTÉ{NBSP}®, CAFÉ™, ÉTÉ{NBSP}°C, n°{NBSP}4.",
    ),
    "German": (
        "„Ä“ und »Ä«, „Ü“ und ‚Ö‘: MENÜ“, BÜRO…, ÜBER – ÖL, Ä…, STRAẞE, Maß, GRÖẞE. Das „Äh…“ und „Ö–“ stört.",
        f"Er sagte: »Über 5{NBSP}€, § 3, 20{NBSP}°C, 3½ Ä²?« – „Nein!“, ‚nie‘ … MÜ® und TÜ™ sind Marken. Die ÄÄ…Ä…Ä… stottern.",
    ),
    "Italian": (
        "È VERITÀ… “PERCHÉ”, «LIBERTÀ», CITTÀ – L’UNIVERSITÀ COSTA 5 €. Perché “è”… «è»… più ‘là’.",
        "Ciò che dà È già lì: 3ª, 4º, 10 °C.",
    ),
    "Romanian": (
        "Litera Â se scrie în interiorul cuvintelor, iar litera Î la începutul lor; ÎNCĂ „Â” și «Â» sunt litere.",
        "ȘTIINȚĂ ȘI ÎNVĂȚĂTURĂ: ROMÂNIA, PÂINE, MÂINE… Prețul: 5 lei – „ieftin”, «ușor», țară, „râu”… ‘râu’.",
    ),
    "Polish": (
        "ŻÓŁĆ, ŁÓDŹ, ŚWIĘTO: „ZAŻÓŁĆ GĘŚLĄ JAŹŃ”… Cena: 5 zł – „tanio”, »drogo«.",
        "Źdźbło, Łączność „Ż”, ‚Ś’, «Ó»… Ó, to Ó² i Ó–Ł.",
    ),
    "Czech": (
        "VÝŠKA, VÝŽIVA A ÚŽASNÝ KÚŇ: „ÚŽAS“ a ‚ÍŽ‘, »PŘÍŠTĚ« – ČEŠTINA, DĚŠŤ, ŤUHÝK. Úžina, Užovka, Ížina.",
        "Řekl: „Příliš žluťoučký kůň…“ – „É“, „Ó“, „Í“… Cena 5 Kč, 20 °C, §{3}, 3½ ÓŽ.".replace("{3}", f"{NBSP}3"),
    ),
    "Slovak": ("MÔŽE, KÔŠ, NÔŽ, TŔŇ, ĽUDIA, ĎALEJ, SÔŠKA, RÓŽA, ÍŠ, ÉŽ, ÝŠ: „MÔŽEŠ“… »KÔŇ«, vŕba, mäso, „ô“, ‚Ô‘.",),
    "Hungarian": ("ÁRVÍZTŰRŐ TÜKÖRFÚRÓGÉP: „Ő”, »Ű«, ’Ú’… Az ÓŐ– és az Ü… betű; 5 Ft – „olcsó”.",),
    "Finnish": (
        "ÄITI, ÖLJY JA YÖTYÖ: ”Ä”… ’Ö’, »Å» – SÄÄ… Hinta 5 €, TÄÄ–SÄÄ, Åbo, ÄÄ…",
        "Hän huusi: ”ÄÄÄ…” – Ä!",
        "GARAAŽ, ŠAKKI, Ä™, Å®.",
    ),
    "Swedish": ("ÅÄÖ: ”Å”, ’Ä’, »Ö» – Å… Å! I ÅA Ä E Ö. Priset är 5 kr, Å–Ä, RÅ™, BLÅ®, på Å², GÅ–STÅ.",),
    "Danish": ("ÆBLE, ØL OG ÅL: „Å“, »Æ«, ‚Ø‘ – Ø… Æ! ØÆÅ, BLÅ… RÅ”, Å” og Å» er tegn; pris 5 kr. I Å står en å.",),
    "Norwegian": ("ÆRLIG TALT: «Å», “Æ”, ‘Ø’ – «BLÅ»… «Å»… RÅ® koster 5 kr; på «Ø»… «Æ»…",),
    "Icelandic": ("ÞAÐ ER GAMAN: „Ð“, „Þ“, »Æ« – ÍSLAND… „ÞÚ“, Ð… Ð–Þ, GUÐ² og GUÐ™; það kostar 5 kr. „ð“… «ð»… Ý½.",),
    "Irish": ("ÉIRE: AN tÚLL, AN tÓL, NA hÉIN, IN ÉIRINN, hÓ… ‘É’ agus “Á” – hÉ… €5.",),
    "Welsh": ("TŶ, DŴR, TÂN, ÂN, Â, Ê, Î, Ô: ‘TÂN’… “LÂN” – CÂN², «Â», Â… â ’r tân â… “â”.",),
    "Turkish": ("İSTANBUL’DA IŞIK, ÇÖZÜM, ĞÜ: “HÂLÂ”, ‘KÂĞIT’… ÜÇ – RÜZGÂR, Â, «Î», 5 ₺, İŞÇİ, HÂLÂ”… HÂLÂ– dedi.",),
    "Vietnamese": (
        "VIỆT NAM: “ĐẤT NƯỚC”, ‘ÂM’, ĂN… Ã, Â, Ê, Ô, Ơ, Ư – TRẦN, NGÃ… “NGÔ” GIÃ– LÃ”, 5 ₫, NGÃ² và «NGÃ»…",
        "Tiếng Việt có dấu: ngã, hỏi… “ngã”… «ngã»… ‘ã’ – à “à”… ơ, ư.",
    ),
    "Estonian": ("ÕÜNE ÄÖÕÜ: „Õ“, «Ü», ŠAŠLÕKK, DUŠŠ, ŽANR, PÖÖŽ, JÄÄŠ… TÖÖ – ÜŽ, ÖŠ. Hind 5 €.",),
    "Latvian": ("ĀĒĪŪ ČĢĶĻŅŠŽ: “RĪGA”, «ĒRA», ‘Ū’ – MĀJA… Cena 5 €.",),
    "Lithuanian": ("ĄČĘĖĮŠŲŪŽ: „ĖJIMAS“, ‚Ų‘ – ĄŽUOLAS… Kaina 5 €, namų „Ė“.",),
    "Catalan": ("L·L: COL·LEGI, PARAL·LEL; «À», “È”, ‘Ò’ – ÇÀ… AIXÒ, QÜESTIÓ, RAÓ… 5 €. Això «és»… “és”…",),
    "Greek": ("ΑΘΗΝΑ: «ΕΛΛΑΔΑ», “Ώ”, ‘Ά’ – ΌΧΙ… Κοστίζει 5 €· τι; “Ό,τι”…", "Ἐν ἀρχῇ ἦν ὁ λόγος·"),
    "Russian": ("ЁЛКА И ЪЕЗД: «Привет», „да“, “нет” – № 5… Цена 100 ₽, 20 °C, вЂк? ГОСТ Р 1.0 — «РСГВ».",),
    "Ukrainian": ("ЇЖАК І Ґанок: «Привіт», „так“, об’єкт, м’ясо – № 5… Ціна 100 ₴.",),
    "Hebrew": (
        "בְּרֵאשִׁ֖ית בָּרָ֣א אֱלֹהִ֑ים אֵ֥ת הַשָּׁמַ֖יִם וְאֵ֥ת הָאָֽרֶץ׃ בֵּית־סֵפֶר, צה״ל, ג׳ורג׳.",
        f"המחיר הוא 5 ₪ (C++{RLM}) – „כן”, ״לא״… תל־אביב. שׁ שּׁ שָּׁ֣ יְרוּשָׁלִַ֔ם \ufb2a",
    ),
    "Arabic": (
        f"قال: «نعم»، و“لا”… السعر ٥ ﷼ – مُحَمَّدٌ رَسُولُ اللَّهِ؛ العـــربية، ٥٠٪ (C++{RLM}).",
        f"سنة ١٤٢٠ ه{ZWJ}. هل هذا «صحيح»؟ لَّا، شَّ، إنّ، أَنَّ.",
    ),
    "Persian": (f"می{ZWNJ}خواهم کتاب{ZWNJ}ها را بخوانم؛ PDF{ZWNJ}ها، «خانه»{ZWNJ}ها، ۵ ریال – خانه{ZWNJ}ای…",),
    "Kurdish": (f"ئه{ZWNJ}مه{ZWNJ} كوردى یه{ZWNJ}، «به{ZWNJ}ڵێ».",),
    "Hindi": (f"नमस्ते, क्{ZWNJ}ष और क्{ZWJ}ष, र्{ZWJ}य; क्{ZWJ} – “हाँ”… ₹५०, क़लम \u0958\u095c, सड़क।",),
    "Bengali": (f"বাংলা: ত্{ZWJ} , র\u200d্যাব, \u09df \u09dc \u09dd, “হ্যাঁ”… ৳৫০।",),
    "Malayalam": (f"അവന്{ZWJ} പറഞ്ഞു, അവള്{ZWJ}. എന്{ZWJ}റെ നാട് കേരളം; ‘പാല്{ZWJ}’, ₹50.",),
    "Sinhala": (f"ශ්{ZWJ}රී ලංකාව, ක්{ZWJ}රීඩා, වාක්{ZWJ}ය; “ඔව්”…",),
    "Tamil": ("தமிழ் நாடு: “ஆம்”, ‘இல்லை’ – கொடு, கோவில்… ₹50.",),
    "Thai": (f"โรงสีตั้งอยู่ริมแม่น้ำ “ใช่” ราคา ฿50 ๆ ฯลฯ… น้ำ{ZWSP}ขึ้น ก็ ที่ กิโลฯ",),
    "Lao": ("ໂຮງສີຕັ້ງຢູ່ແຄມນ້ຳ “ແມ່ນ” ລາຄາ ₭50… ຯລຯ",),
    "Khmer": (f"ម៉ាស៊ីន{ZWSP}កិន{ZWSP}ស្រូវ{ZWSP}នៅ{ZWSP}ក្បែរ{ZWSP}ទន្លេ “បាទ” ៛50។",),
    "Burmese": ("ဆန်စက်သည် မြစ်ကမ်းဘေးတွင် ရှိသည်။ “ဟုတ်ကဲ့” ကျပ် ၅၀… နှင့် န့်",),
    "Tibetan": ("བོད་ཡིག་བསྒྲུབས་པ། ཨོཾ་མ་ཎི་པདྨེ་ཧཱུྃ། ཧྐྵྨླྺྻྃ ཀྵ ༄༅།།",),
    "Mongolian": ("ᠮᠣᠩᠭᠣᠯ ᠦᠰᠦᠭ ᠪᠠᠭᠰᠢ ᠲᠠᠢ\u202fᠶᠢᠨ ᠰᠠᠷ\u180eᠠ",),
    "Georgian": ("საქართველო: „დიახ“, «არა» – ლარი 50 ₾… ᲡᲐᲥᲐᲠᲗᲕᲔᲚᲝ.",),
    "Armenian": ("ԲԱՐԵՎ, ՀԱՅԱՍՏԱՆ՝ «այո», ո՞ւր, ա՜խ։ Գինը 50 ֏…",),
    "Amharic": ("ሰላም፣ ኢትዮጵያ፤ «አዎ» ‹አይ› ፭፻ ብር።",),
    "Korean": ("안녕하세요, “예”, ‘아니요’ – 「네」… 가격은 ₩5,000, 20℃, ㈜한국, 各 50%.",),
    "Japanese": ("「はい」『いいえ』（笑）…価格は￥５００、２０℃、㈱日本。ｶﾅ、が ぱ、㍻、神\ufa19、〜―・",),
    "Chinese": ("“是的”，‘不’——《书》……价格：￥５０，２０℃，①②；「繁體」『中文』。",),
}
