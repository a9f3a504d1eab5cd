"""Cases of the suite `multilingual`: twelve languages, six families, one of each in every twelve."""

# Letters that look like others are what this is about, and wide ones count twice in a line.
# ruff: noqa: E501, RUF001

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ..draw import Draw
from .multilingual_written import WRITTEN
from .shipped import examples, main, woven

CASES = 72
_FAMILIES = ("passage", "constraint", "translation", "classification", "formats", "cross")

Fields = dict[str, Any]


def cases(seed: int = 0, n: int = CASES) -> list[Fields]:
    """The first `n` cases of a seed; those of seed 0 hold the hand-written ones."""

    def make(family: str, tier: str, draw: Draw, made: Sequence[Mapping[str, Any]]) -> Fields:
        own = Counter(case["language"] for case in made if case["family"] == family)
        if seed == 0 and own.total() < len(_LANGUAGES):
            own.update(c["language"] for c in WRITTEN if c["family"] == family)
        # Each family begins with another language.
        turn = 2 * _FAMILIES.index(family) + 1
        order = [*_LANGUAGES][turn:] + [*_LANGUAGES][:turn]
        return _MAKERS[family](draw, min(order, key=lambda language: own[language]))

    return woven(
        "multilingual",
        dict.fromkeys(_FAMILIES, len(_LANGUAGES)),
        WRITTEN,
        make,
        seed=seed,
        n=n,
        max_tokens=512,
        grader="language",
    )


# --- what each language says ---------------------------------------------------------------------
# days: "on Monday" to "on Friday", and the forms of the day that count, split by |.
# passage, question, answer: with n, person and day. tips: with topic; no line has a digit.
# labels: complaint, order, question, in this order, as messages.

_PEOPLE = ("Ines Varga", "Tomas Ekdahl", "Mirela Costin", "Owen Tallis", "Priya Raman",
           "Jonas Weidt", "Lucie Armand", "Samir Haddou", "Greta Solheim", "Paulo Seixas",
           "Hana Kobori", "Dario Venturi")  # fmt: skip
_FIRMS = ("Corvane Glass", "Lumbergate", "Halvern Optics", "Swiftlane", "Bramwick Foods",
          "Penrith Valves", "Quillon Paper")  # fmt: skip
_EN_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday")

_LANGUAGES: Mapping[str, Mapping[str, Any]] = {
    "de": {
        "name": "German",
        "days": ("am Montag", "am Dienstag", "am Mittwoch", "am Donnerstag", "am Freitag"),
        "forms": ("Montag", "Dienstag", "Mittwoch", "Donnerstag", "Freitag"),
        "passage": "Mitteilung aus dem Lager: Die Lieferung mit {n} Kartons kommt {day} an. "
        "{person} nimmt sie entgegen. Bis dahin bleibt Tor 3 geschlossen.",
        "question": "Wie viele Kartons kommen an, und an welchem Tag? Antworte in einem Satz.",
        "answer": "Es kommen {n} Kartons {day} an.",
        "tips": "Gib drei kurze Tipps für {topic}: genau drei Zeilen, ein Tipp pro Zeile, und "
        "keine Ziffern.",
        "topics": ("eine Besprechung", "einen Vortrag", "ein Bewerbungsgespräch",
                   "einen Kundenbesuch"),
        "lines": ("Bereite dich gut vor.", "Sei pünktlich und höre aufmerksam zu.",
                  "Sprich nicht zu schnell.", "Bedanke dich am Ende."),
        "term": "Rechnung",
        "sentence": "Die Rechnung für {n} Pumpen wurde {day} an {firm} geschickt.",
        "labels": ("Beschwerde", "Bestellung", "Frage"),
        "classify": "Ordne die Nachricht einer Kategorie zu: {labels}. Antworte nur mit dem Namen "
        "der Kategorie.",
        "messages": ("Schon wieder sind {n} Lampen kaputt angekommen, das ist nicht hinnehmbar!",
                     "Bitte schicken Sie uns {n} Lampen bis nächste Woche.",
                     "Passen die Lampen auch in eine Halle mit {n} Metern Länge?"),
        "format": "Schreibe in einem Satz auf Deutsch, dass die Rechnung vom {iso} über {plain} "
        "Euro bezahlt ist. Verwende das deutsche Datums- und Zahlenformat.",
        "formatted": "Die Rechnung vom {date} über {amount} Euro ist bezahlt.",
    },
    "fr": {
        "name": "French",
        "days": ("lundi", "mardi", "mercredi", "jeudi", "vendredi"),
        "forms": ("lundi", "mardi", "mercredi", "jeudi", "vendredi"),
        "passage": "Note de l'entrepôt : la livraison de {n} cartons arrive {day}. {person} la "
        "réceptionne. D'ici là, le quai 3 reste fermé.",
        "question": "Combien de cartons arrivent, et quel jour ? Réponds en une phrase.",
        "answer": "Les {n} cartons arrivent {day}.",
        "tips": "Donne trois conseils brefs pour {topic} : exactement trois lignes, un conseil par "
        "ligne, sans aucun chiffre.",
        "topics": ("une réunion", "un exposé", "un entretien d'embauche", "une visite de client"),
        "lines": ("Préparez-vous bien avant le début.", "Soyez à l'heure et écoutez les autres.",
                  "Ne parlez pas trop vite.", "Remerciez tout le monde à la fin."),
        "term": "facture",
        "sentence": "La facture pour {n} pompes a été envoyée {day} à {firm}.",
        "labels": ("réclamation", "commande", "question"),
        "classify": "Classe le message dans une catégorie : {labels}. Réponds uniquement par le nom "
        "de la catégorie.",
        "messages": ("Encore une fois, {n} lampes sont arrivées cassées, c'est inadmissible !",
                     "Veuillez nous envoyer {n} lampes d'ici la semaine prochaine.",
                     "Les lampes conviennent-elles à un hall de {n} mètres de long ?"),
        "format": "Écris en une phrase, en français, que la facture du {iso} de {plain} euros est "
        "payée. Utilise le format français pour la date et le montant.",
        "formatted": "La facture du {date} de {amount} euros est payée.",
    },
    "es": {
        "name": "Spanish",
        "days": ("el lunes", "el martes", "el miércoles", "el jueves", "el viernes"),
        "forms": ("lunes", "martes", "miércoles", "jueves", "viernes"),
        "passage": "Aviso del almacén: la entrega de {n} cajas llega {day}. La recibe {person}. "
        "Hasta entonces la puerta 3 permanece cerrada.",
        "question": "¿Cuántas cajas llegan y qué día? Responde en una frase.",
        "answer": "Llegan {n} cajas {day}.",
        "tips": "Da tres consejos breves para {topic}: exactamente tres líneas, un consejo por "
        "línea y sin cifras.",
        "topics": ("una reunión", "una presentación", "una entrevista de trabajo",
                   "una visita de un cliente"),
        "lines": ("Prepárate bien antes de empezar.", "Sé puntual y escucha a los demás.",
                  "No hables demasiado rápido.", "Da las gracias al final."),
        "term": "factura",
        "sentence": "La factura por {n} bombas se envió {day} a {firm}.",
        "labels": ("queja", "pedido", "pregunta"),
        "classify": "Clasifica el mensaje en una categoría: {labels}. Responde solo con el nombre "
        "de la categoría.",
        "messages": ("Otra vez han llegado {n} lámparas rotas, ¡es inaceptable!",
                     "Envíennos {n} lámparas antes de la próxima semana, por favor.",
                     "¿Sirven las lámparas para una nave de {n} metros de largo?"),
        "format": "Escribe en una frase, en español, que la factura del {iso} por {plain} euros "
        "está pagada. Usa el formato español de fecha y de números.",
        "formatted": "La factura del {date} por {amount} euros está pagada.",
    },
    "it": {
        "name": "Italian",
        "days": ("lunedì", "martedì", "mercoledì", "giovedì", "venerdì"),
        "forms": ("lunedì", "martedì", "mercoledì", "giovedì", "venerdì"),
        "passage": "Avviso del magazzino: la consegna di {n} scatole arriva {day}. La riceve "
        "{person}. Fino ad allora il cancello 3 resta chiuso.",
        "question": "Quante scatole arrivano e in quale giorno? Rispondi con una frase.",
        "answer": "Arrivano {n} scatole e la consegna è {day}.",
        "tips": "Dai tre consigli brevi per {topic}: esattamente tre righe, un consiglio per riga "
        "e nessuna cifra.",
        "topics": ("una riunione", "una presentazione", "un colloquio di lavoro",
                   "la visita di un cliente"),
        "lines": ("Preparati bene prima di iniziare.", "Sii puntuale e ascolta gli altri.",
                  "Non parlare troppo in fretta.", "Ringrazia tutti alla fine."),
        "term": "fattura",
        "sentence": "La fattura per {n} pompe è stata inviata {day} a {firm}.",
        "labels": ("reclamo", "ordine", "domanda"),
        "classify": "Assegna il messaggio a una categoria: {labels}. Rispondi solo con il nome "
        "della categoria.",
        "messages": ("Ancora una volta sono arrivate {n} lampade rotte, è inaccettabile!",
                     "Vi prego di inviarci {n} lampade entro la prossima settimana.",
                     "Le lampade vanno bene per un capannone lungo {n} metri?"),
        "format": "Scrivi in una frase, in italiano, che la fattura del {iso} di {plain} euro è "
        "stata pagata. Usa il formato italiano per la data e per i numeri.",
        "formatted": "La fattura del {date} di {amount} euro è stata pagata.",
    },
    "pt": {
        "name": "Portuguese",
        "days": ("na segunda-feira", "na terça-feira", "na quarta-feira", "na quinta-feira",
                 "na sexta-feira"),
        "forms": ("segunda", "terça", "quarta", "quinta", "sexta"),
        "passage": "Aviso do armazém: a entrega de {n} caixas chega {day}. Quem a recebe é "
        "{person}. Até lá, o portão 3 fica fechado.",
        "question": "Quantas caixas chegam e em que dia? Responda em uma frase.",
        "answer": "Chegam {n} caixas {day}.",
        "tips": "Dê três dicas curtas para {topic}: exatamente três linhas, uma dica por linha e "
        "nenhum algarismo.",
        "topics": ("uma reunião", "uma apresentação", "uma entrevista de emprego",
                   "a visita de um cliente"),
        "lines": ("Prepare-se bem antes de começar.", "Seja pontual e ouça os outros.",
                  "Não fale rápido demais.", "Agradeça a todos no final."),
        "term": "fatura",
        "sentence": "A fatura de {n} bombas foi enviada {day} para {firm}.",
        "labels": ("reclamação", "pedido", "pergunta"),
        "classify": "Classifique a mensagem em uma categoria: {labels}. Responda apenas com o nome "
        "da categoria.",
        "messages": ("Mais uma vez chegaram {n} lâmpadas quebradas, isso é inaceitável!",
                     "Por favor, enviem-nos {n} lâmpadas até a próxima semana.",
                     "As lâmpadas servem para um galpão de {n} metros de comprimento?"),
        "format": "Escreva em uma frase, em português, que a fatura de {iso} no valor de {plain} "
        "euros está paga. Use o formato português de data e de números.",
        "formatted": "A fatura de {date} no valor de {amount} euros está paga.",
    },
    "pl": {
        "name": "Polish",
        "days": ("w poniedziałek", "we wtorek", "w środę", "w czwartek", "w piątek"),
        "forms": ("poniedziałek", "wtorek", "środę|środa", "czwartek", "piątek"),
        "passage": "Komunikat z magazynu: dostawa {n} kartonów przyjedzie {day}. Odbierze ją "
        "{person}. Do tego czasu brama 3 pozostaje zamknięta.",
        "question": "Ile kartonów przyjedzie i w jaki dzień? Odpowiedz jednym zdaniem.",
        "answer": "Dostawa to {n} kartonów i przyjedzie {day}.",
        "tips": "Podaj trzy krótkie rady na {topic}: dokładnie trzy wiersze, jedna rada w wierszu, "
        "bez żadnych cyfr.",
        "topics": ("zebranie", "prezentację", "rozmowę o pracę", "wizytę klienta"),
        "lines": ("Przygotuj się dobrze przed rozpoczęciem.", "Bądź punktualnie i słuchaj innych.",
                  "Nie mów zbyt szybko.", "Na końcu podziękuj wszystkim."),
        "term": "faktura",
        "term_forms": ("faktura", "fakturę", "faktury", "fakturze"),
        "sentence": "Faktura za pompy ({n} sztuk) została wysłana {day} do {firm}.",
        "labels": ("reklamacja", "zamówienie", "pytanie"),
        "classify": "Przypisz wiadomość do kategorii: {labels}. Odpowiedz tylko nazwą kategorii.",
        "messages": ("Znowu przyszły uszkodzone lampy, aż {n} sztuk, to niedopuszczalne!",
                     "Proszę o przesłanie lamp, {n} sztuk, do przyszłego tygodnia.",
                     "Czy te lampy nadają się do hali o długości {n} metrów?"),
        "format": "Napisz jednym zdaniem po polsku, że faktura z dnia {iso} na kwotę {plain} euro "
        "jest zapłacona. Użyj polskiego zapisu daty i liczb.",
        "formatted": "Faktura z dnia {date} na kwotę {amount} euro jest zapłacona.",
    },
    "tr": {
        "name": "Turkish",
        "days": ("pazartesi günü", "salı günü", "çarşamba günü", "perşembe günü", "cuma günü"),
        "forms": ("pazartesi", "salı", "çarşamba", "perşembe", "cuma"),
        "passage": "Depodan duyuru: {n} kutuluk teslimat {day} geliyor. Teslimatı {person} alacak. "
        "O zamana kadar 3 numaralı kapı kapalı kalacak.",
        "question": "Kaç kutu geliyor ve hangi gün? Tek cümleyle yanıtla.",
        "answer": "Depoya {day} {n} kutu geliyor.",
        "tips": "{topic} için üç kısa öneri ver: tam olarak üç satır, her satırda bir öneri olsun "
        "ve hiç rakam kullanma.",
        "topics": ("Bir toplantı", "Bir sunum", "Bir iş görüşmesi", "Bir müşteri ziyareti"),
        "lines": ("Başlamadan önce iyi hazırlanın.", "Zamanında gelin ve başkalarını dinleyin.",
                  "Çok hızlı konuşmayın.", "Sonunda herkese teşekkür edin."),
        "term": "fatura",
        "term_forms": ("fatura", "faturası", "faturayı", "faturanın", "faturasını"),
        "sentence": "{n} pompa için fatura {day} {firm} şirketine gönderildi.",
        "labels": ("şikâyet", "sipariş", "soru"),
        "classify": "Mesajı bir kategoriye ayır: {labels}. Yalnızca kategorinin adıyla yanıtla.",
        "messages": ("Yine {n} lamba kırık geldi, bu kabul edilemez!",
                     "Lütfen gelecek haftaya kadar bize {n} lamba gönderin.",
                     "Bu lambalar {n} metre uzunluğunda bir hol için uygun mu?"),
        "format": "{iso} tarihli ve {plain} avro tutarındaki faturanın ödendiğini Türkçe tek bir "
        "cümleyle yaz. Türkçe tarih ve sayı biçimini kullan.",
        "formatted": "{date} tarihli ve {amount} avro tutarındaki fatura ödendi.",
    },
    "ar": {
        "name": "Arabic",
        "days": ("يوم الاثنين", "يوم الثلاثاء", "يوم الأربعاء", "يوم الخميس", "يوم الجمعة"),
        "forms": ("الاثنين|الإثنين", "الثلاثاء", "الأربعاء|الاربعاء", "الخميس", "الجمعة"),
        "passage": "إعلان من المستودع: تصل شحنة من {n} صندوقًا {day}. سيستلمها {person}. حتى ذلك "
        "الحين تبقى البوابة 3 مغلقة.",
        "question": "كم صندوقًا سيصل وفي أي يوم؟ أجب بجملة واحدة.",
        "answer": "سيصل {n} صندوقًا {day} إلى المستودع.",
        "latin": "Sayasil {n} sunduqan yawm al-khamis ila al-mustawda.",
        "tips": "قدّم ثلاث نصائح قصيرة عن {topic}: ثلاثة أسطر بالضبط، نصيحة واحدة في كل سطر، "
        "وبدون أي أرقام.",
        "topics": ("اجتماع عمل", "عرض تقديمي", "مقابلة عمل", "زيارة عميل"),
        "lines": ("استعد جيدًا قبل البدء.", "احضر في الموعد واستمع إلى الآخرين.",
                  "لا تتحدث بسرعة كبيرة.", "اشكر الجميع في النهاية."),
        "term": "فاتورة",
        "term_forms": ("فاتورة", "الفاتورة"),
        "sentence": "أُرسلت فاتورة {n} مضخة إلى {firm} {day}.",
        "labels": ("شكوى", "طلب", "سؤال"),
        "classify": "صنّف الرسالة في إحدى الفئات التالية: {labels}. أجب باسم الفئة فقط.",
        "messages": ("مرة أخرى وصل {n} مصباحًا مكسورًا، وهذا غير مقبول!",
                     "يرجى إرسال {n} مصباحًا إلينا قبل الأسبوع القادم.",
                     "هل تناسب هذه المصابيح قاعة طولها {n} مترًا؟"),
        "format": "اكتب بالعربية في جملة واحدة أن الفاتورة المؤرخة في {iso} بمبلغ {plain} يورو قد "
        "دُفعت، مع كتابة التاريخ بالصيغة العربية.",
        "formatted": "تم دفع الفاتورة المؤرخة في {date} بمبلغ {amount} يورو.",
    },
    "hi": {
        "name": "Hindi",
        "days": ("सोमवार को", "मंगलवार को", "बुधवार को", "गुरुवार को", "शुक्रवार को"),
        "forms": ("सोमवार", "मंगलवार", "बुधवार", "गुरुवार|बृहस्पतिवार|वीरवार", "शुक्रवार"),
        "passage": "गोदाम से सूचना: {n} डिब्बों की खेप {day} आएगी। उसे {person} लेंगे। तब तक गेट 3 बंद "
        "रहेगा।",
        "question": "कितने डिब्बे आएँगे और किस दिन? एक वाक्य में उत्तर दीजिए।",
        "answer": "गोदाम में {day} {n} डिब्बे आएँगे।",
        "latin": "Godam mein guruvar ko {n} dibbe aayenge.",
        "tips": "{topic} के लिए तीन छोटे सुझाव दीजिए: ठीक तीन पंक्तियाँ, हर पंक्ति में एक सुझाव, और कोई अंक "
        "नहीं।",
        "topics": ("बैठक", "प्रस्तुति", "नौकरी के साक्षात्कार", "ग्राहक से मुलाकात"),
        "lines": ("पहले से अच्छी तैयारी करें।", "समय पर पहुँचें और दूसरों की बात सुनें।",
                  "बहुत तेज़ न बोलें।", "अंत में सबको धन्यवाद दें।"),
        "term": "चालान",
        "sentence": "{n} पंपों का चालान {firm} को {day} भेजा गया।",
        "labels": ("शिकायत", "ऑर्डर", "प्रश्न"),
        "classify": "संदेश को इनमें से एक श्रेणी दीजिए: {labels}। उत्तर में केवल श्रेणी का नाम लिखिए।",
        "messages": ("फिर से {n} लैंप टूटे हुए आए हैं, यह बिल्कुल स्वीकार्य नहीं है!",
                     "कृपया अगले सप्ताह तक हमें {n} लैंप भेज दीजिए।",
                     "क्या ये लैंप {n} मीटर लंबे हॉल के लिए ठीक हैं?"),
        "format": "हिंदी में एक वाक्य लिखिए कि {iso} का {plain} यूरो का चालान चुका दिया गया है। तारीख "
        "भारतीय ढंग से लिखिए।",
        "formatted": "{date} का {amount} यूरो का चालान चुका दिया गया है।",
    },
    "ja": {
        "name": "Japanese",
        "days": ("月曜日に", "火曜日に", "水曜日に", "木曜日に", "金曜日に"),
        "forms": ("月曜", "火曜", "水曜", "木曜", "金曜"),
        "passage": "倉庫からのお知らせ：{n}箱の荷物が{day}届きます。受け取りは{person}さんが担当します。"
        "それまで3番ゲートは閉まっています。",
        "question": "荷物は何箱で、何曜日に届きますか。一文で答えてください。",
        "answer": "荷物は{n}箱で、{day}届きます。",
        "latin": "Nimotsu wa {n} hako de, mokuyobi ni todokimasu.",
        "tips": "{topic}のための短い助言を三つください。ちょうど三行で、一行に一つずつ書き、数字は使わないで"
        "ください。",
        "topics": ("会議", "発表", "就職の面接", "お客様の訪問"),
        "lines": ("事前によく準備してください。", "時間を守り、人の話をよく聞いてください。",
                  "早口にならないようにしましょう。", "最後にお礼を言いましょう。"),
        "term": "請求書",
        "sentence": "ポンプ{n}台の請求書は{day}{firm}に送られました。",
        "labels": ("苦情", "注文", "質問"),
        "classify": "次のメッセージを分類してください。分類：{labels}。分類の名前だけを答えてください。",
        "messages": ("また{n}個のランプが壊れて届きました。これでは困ります。",
                     "来週までにランプを{n}個送ってください。",
                     "このランプは長さ{n}メートルのホールにも使えますか。"),
        "format": "{iso}付の{plain}ユーロの請求書は支払い済みである、と日本語の一文で書いてください。日付は"
        "日本の書き方にしてください。",
        "formatted": "{date}付の{amount}ユーロの請求書は支払い済みです。",
    },
    "ko": {
        "name": "Korean",
        "days": ("월요일에", "화요일에", "수요일에", "목요일에", "금요일에"),
        "forms": ("월요일", "화요일", "수요일", "목요일", "금요일"),
        "passage": "창고 안내: 상자 {n}개가 {day} 도착합니다. {person} 님이 받을 예정입니다. 그때까지 3번 문은 "
        "닫혀 있습니다.",
        "question": "상자는 몇 개이며 무슨 요일에 도착합니까? 한 문장으로 답하세요.",
        "answer": "상자 {n}개가 {day} 도착합니다.",
        "latin": "Sangja {n} gae-ga mogyoil-e dochakhamnida.",
        "tips": "{topic}에 대한 짧은 조언 세 가지를 알려 주세요. 정확히 세 줄로, 한 줄에 하나씩 쓰고 숫자는 쓰지 "
        "마세요.",
        "topics": ("회의", "발표", "취업 면접", "고객 방문"),
        "lines": ("미리 충분히 준비하세요.", "시간을 지키고 다른 사람의 말을 잘 들으세요.",
                  "너무 빨리 말하지 마세요.", "마지막에 감사 인사를 하세요."),
        "term": "청구서",
        "sentence": "펌프 {n}대의 청구서를 {day} {firm}에 보냈습니다.",
        "labels": ("불만", "주문", "질문"),
        "classify": "다음 메시지를 분류하세요. 분류: {labels}. 분류 이름만 답하세요.",
        "messages": ("램프 {n}개가 또 깨진 채로 왔습니다. 정말 받아들일 수 없습니다!",
                     "다음 주까지 램프 {n}개를 보내 주세요.",
                     "이 램프는 길이가 {n}미터인 홀에도 맞습니까?"),
        "format": "{iso} 자 {plain}유로 청구서가 지불되었다는 내용을 한국어 한 문장으로 쓰세요. 날짜는 한국식으로 "
        "쓰세요.",
        "formatted": "{date} 자 {amount}유로 청구서는 지불되었습니다.",
    },
    "zh": {
        "name": "Chinese",
        "days": ("星期一", "星期二", "星期三", "星期四", "星期五"),
        "forms": ("星期一|周一|礼拜一|週一", "星期二|周二|礼拜二|週二", "星期三|周三|礼拜三|週三",
                  "星期四|周四|礼拜四|週四", "星期五|周五|礼拜五|週五"),
        "passage": "仓库通知：{n}箱货物将在{day}到达，由{person}签收。在此之前，3号门保持关闭。",
        "question": "有多少箱货物到达？在哪一天？请用一句话回答。",
        "answer": "{n}箱货物将在{day}到达。",
        "latin": "{n} xiang huowu jiang zai xingqisi daoda.",
        "tips": "请给出三条关于{topic}的简短建议：正好三行，每行一条，不要使用任何数字。",
        "topics": ("开会", "做报告", "求职面试", "客户来访"),
        "lines": ("事先要做好准备。", "准时到场，认真听别人说话。", "说话不要太快。", "最后向大家表示感谢。"),
        "term": "发票",
        "sentence": "{n}台水泵的发票已在{day}寄给{firm}。",
        "labels": ("投诉", "订单", "咨询"),
        "classify": "请将下面的消息归入一个类别：{labels}。只回答类别名称。",
        "messages": ("又有{n}盏灯送到时是坏的，这让人无法接受！", "请在下周之前给我们寄{n}盏灯。",
                     "这种灯适合长{n}米的大厅吗？"),
        "format": "请用一句中文说明：日期为{iso}、金额为{plain}欧元的发票已付款。日期请用中文写法。",
        "formatted": "日期为{date}、金额为{amount}欧元的发票已付款。",
    },
}  # fmt: skip

_EN_PASSAGE = "There are {n} boxes on {day}."
_LABELS = ("complaint", "order", "question")
_EN_LINES = "Prepare well for this.\nBe on time and listen to the others.\nDo not speak too fast."


# --- families ------------------------------------------------------------------------------------


def _case(
    language: str,
    family: str,
    prompt: str,
    expected: Fields,
    ideal: Sequence[str],
    wrong: Sequence[tuple[str, str]],
) -> Fields:
    return {
        "language": language,
        "cluster_id": f"multilingual-{family}-{language}",
        "prompt": prompt,
        "expected": expected,
        "ideal": list(dict.fromkeys(ideal)),
        "wrong": [list(pair) for pair in wrong],
    }


def _local(text: str, language: str) -> str:
    """With digits of the script: Arabic-Indic, Devanagari, full-width."""
    zero = {"ar": 0x660, "hi": 0x966, "ja": 0xFF10, "zh": 0xFF10, "ko": 0xFF10}.get(language, 0x30)
    return "".join(chr(zero + int(c)) if c in "0123456789" else c for c in text)


def _facts(draw: Draw, says: Mapping[str, Any]) -> tuple[Fields, list[list[str]], Fields]:
    place, n = draw.integer(0, 4), draw.integer(13, 97)
    filled = {"n": n, "person": draw.choice(_PEOPLE), "day": says["days"][place],
              "firm": draw.choice(_FIRMS)}  # fmt: skip
    has = [[str(n)], says["forms"][place].split("|")]
    return filled, has, {**filled, "day": _EN_DAYS[place]}


def _passage(draw: Draw, language: str) -> Fields:
    says = _LANGUAGES[language]
    filled, has, english = _facts(draw, says)
    right, other = says["answer"].format(**filled), _EN_PASSAGE.format(**english)
    stale = says["answer"].format(**{**filled, "n": 3})
    wrong = [(other, "wrong_language"), (f"{right} {other}", "mixed_language"), (stale, "missing")]
    if "latin" in says:
        wrong.append((says["latin"].format(**filled), "wrong_script"))
    return _case(
        language,
        "passage",
        f"{says['passage'].format(**filled)}\n\n{says['question']}",
        {"has": has},
        [right, _local(right, language)],
        wrong,
    )


def _constraint(draw: Draw, language: str) -> Fields:
    says = _LANGUAGES[language]
    lines = says["lines"]
    right = "\n".join(lines[:3])
    english = _EN_LINES.split("\n")
    ask = says["tips"].format(topic=draw.choice(says["topics"]))
    return _case(
        language,
        "constraint",
        f"{draw.choice(_PEOPLE)} ({draw.choice(_FIRMS)}): {ask}",
        {"lines": 3, "no_digits": True},
        [right, "\n\n".join(lines[1:])],
        [
            (_EN_LINES, "wrong_language"),
            ("\n".join(lines), "wrong_count"),
            ("\n".join(f"{n}. {line}" for n, line in enumerate(lines[:3], 1)), "digits"),
            (f"{lines[0]} {english[0]}\n{lines[1]} {english[1]}\n{lines[2]} {english[2]}",
             "mixed_language"),
        ],
    )  # fmt: skip


def _translation(draw: Draw, language: str) -> Fields:
    says = _LANGUAGES[language]
    filled, has, english = _facts(draw, says)
    source = "The invoice for {n} pumps was sent to {firm} on {day}.".format(**english)
    right = says["sentence"].format(**filled)
    return _case(
        language,
        "translation",
        f"Translate this sentence into {says['name']}. Use the word '{says['term']}' for 'invoice', "
        f"and leave the name of the firm and the number as they are.\n\n{source}",
        {"has": [*has, [filled["firm"]], list(says.get("term_forms", (says["term"],)))]},
        [right, _local(right, language)],
        [
            (source, "wrong_language"),
            (f"{right} {source}", "mixed_language"),
            (right.replace(filled["firm"], "ABC"), "missing"),
        ],
    )


def _classification(draw: Draw, language: str) -> Fields:
    says = _LANGUAGES[language]
    place = draw.integer(0, 2)
    labels = says["labels"]
    message = says["messages"][place].format(n=draw.integer(13, 97))
    others = [label for label in labels if label != labels[place]]
    listed = ", ".join(draw.shuffled(labels))
    english = [(_LABELS[place], "wrong_script" if language in _SCRIPTS else "missing")]
    if _LABELS[place] == labels[place]:
        english = []
    return _case(
        language,
        "classification",
        f"{says['classify'].format(labels=listed)}\n\n{message}",
        {"has": [[labels[place]]], "lacks": others},
        [labels[place], f"{labels[place]}."],
        [(others[0], "missing"), (listed, "rival"), *english],
    )


_SCRIPTS = ("ar", "hi", "ja", "ko", "zh")
_MONTHS = {
    "de": "Januar Februar März April Mai Juni Juli August September Oktober November Dezember",
    "fr": "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
    "es": "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
    "it": "gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre "
    "dicembre",
    "pt": "janeiro fevereiro março abril maio junho julho agosto setembro outubro novembro dezembro",
    "pl": "stycznia lutego marca kwietnia maja czerwca lipca sierpnia września października "
    "listopada grudnia",
    "tr": "Ocak Şubat Mart Nisan Mayıs Haziran Temmuz Ağustos Eylül Ekim Kasım Aralık",
    "ar": "يناير فبراير مارس أبريل مايو يونيو يوليو أغسطس سبتمبر أكتوبر نوفمبر ديسمبر",
    "hi": "जनवरी फ़रवरी मार्च अप्रैल मई जून जुलाई अगस्त सितंबर अक्टूबर नवंबर दिसंबर",
}


def _dates(language: str, year: int, month: int, day: int) -> list[str]:
    """Ways to write a day; the usual one in a sentence first."""
    signs = {"de": ".", "pl": ".", "tr": "."}.get(language, "/")
    short = [f"{day:02}{signs}{month:02}{signs}{year}", f"{day}{signs}{month}{signs}{year}"]
    if language in ("ja", "zh"):
        return [f"{year}年{month}月{day}日", f"{year}年{month:02}月{day:02}日"]
    if language == "ko":
        return [
            f"{year}년 {month}월 {day}일",
            f"{year}년{month}월{day}일",
            f"{year}. {month}. {day}",
        ]
    name = _MONTHS[language].split()[month - 1]
    joint = {"es": " de ", "pt": " de "}.get(language, " ")
    dot = "." if language == "de" else ""
    long = [f"{day}{dot}{joint}{name}{joint}{year}"]
    if language == "hi":
        long += [f"{day} {name}, {year}", f"{day:02}-{month:02}-{year}", f"{day}-{month}-{year}"]
        if month == 2:
            long.append(f"{day} फरवरी {year}")
    if language == "ar":
        long += [f"{day}-{month}-{year}", f"{year}/{month}/{day}", f"{year}/{month:02}/{day:02}"]
    return [*long, *short]


def _amounts(language: str, units: int, cents: int) -> list[str]:
    """Ways to write an amount of four digits before the point; the usual one first."""
    thousands, rest = divmod(units, 1000)
    comma = [f"{thousands}.{rest:03},{cents:02}", f"{units},{cents:02}",
             f"{thousands} {rest:03},{cents:02}"]  # fmt: skip
    point = [f"{thousands},{rest:03}.{cents:02}", f"{units}.{cents:02}"]
    if language in ("fr", "pl"):
        return [comma[2], comma[1]]
    if language == "ar":
        return [*point, *comma, f"{thousands}٬{rest:03}٫{cents:02}", f"{units}٫{cents:02}"]
    return comma if language not in _SCRIPTS else point


def _formats(draw: Draw, language: str) -> Fields:
    says = _LANGUAGES[language]
    year, month, day = draw.integer(2031, 2034), draw.integer(1, 12), draw.integer(13, 28)
    units, cents = draw.integer(1100, 9899), draw.choice((25, 40, 50, 75, 90))
    dates, amounts = _dates(language, year, month, day), _amounts(language, units, cents)
    iso, plain = f"{year}-{month:02}-{day:02}", f"{units}.{cents:02}"
    right = says["formatted"].format(date=dates[0], amount=amounts[0])
    english = f"The invoice of {iso} for {plain} euros has been paid and there are no others."
    return _case(
        language,
        "formats",
        says["format"].format(iso=iso, plain=plain),
        {"has": [dates, amounts], "as_written": True},
        [right, says["formatted"].format(date=dates[-1], amount=amounts[1]),
         _local(right, language)],
        [
            (says["formatted"].format(date=iso, amount=amounts[0]), "missing"),
            (says["formatted"].format(date=dates[0], amount=f"{units + 1000}.{cents}"), "missing"),
            (english, "wrong_language"),
        ],
    )  # fmt: skip


def _cross(draw: Draw, language: str) -> Fields:
    """The passage and its question in one language, the answer in another."""
    says = _LANGUAGES[language]
    source = draw.choice([name for name in _LANGUAGES if name != language])
    place, n, person = draw.integer(0, 4), draw.integer(13, 97), draw.choice(_PEOPLE)
    asked, filled = (
        {"n": n, "person": person, "day": _LANGUAGES[name]["days"][place]}
        for name in (source, language)
    )
    right, other = says["answer"].format(**filled), _LANGUAGES[source]["answer"].format(**asked)
    english = _EN_PASSAGE.format(n=n, day=_EN_DAYS[place])
    wrong = [(english, "wrong_language"), (says["answer"].format(**{**filled, "n": 3}), "missing")]
    if source in _SCRIPTS and language not in _SCRIPTS:
        wrong.append((other, "wrong_language"))
    return _case(
        language,
        "cross",
        f"Answer the question below in {says['name']}, whatever language it is in.\n\n"
        f"{_LANGUAGES[source]['passage'].format(**asked)}\n\n{_LANGUAGES[source]['question']}",
        {"has": [[str(n)], says["forms"][place].split("|")]},
        [right, _local(right, language)],
        wrong,
    )


_MAKERS = {
    "passage": _passage,
    "constraint": _constraint,
    "translation": _translation,
    "classification": _classification,
    "formats": _formats,
    "cross": _cross,
}


def _example(family: str, tier: str, draw: Draw, made: Sequence[Mapping[str, Any]]) -> Fields:
    return _MAKERS[family](draw, {"passage": "it", "translation": "ko", "cross": "de"}[family])


EXAMPLES = examples(
    "multilingual",
    _example,
    (("passage", "medium"), ("translation", "medium"), ("cross", "medium")),
)


if __name__ == "__main__":
    main("multilingual")
