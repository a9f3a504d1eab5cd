"""Cases of the suite `multilingual` that were written by hand: two in each language."""

# Letters that look like others are what this is about, and wide ones count twice in a line.
# ruff: noqa: E501, RUF001

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def _case(
    language: str,
    family: str,
    tier: str,
    prompt: str,
    expected: dict[str, Any],
    ideal: Sequence[str],
    wrong: Sequence[tuple[str, str]],
) -> dict[str, Any]:
    return {
        "language": language,
        "family": family,
        "tier": tier,
        "cluster_id": f"multilingual-{family}-{language}-written",
        "prompt": prompt,
        "expected": expected,
        "ideal": list(ideal),
        "wrong": [list(pair) for pair in wrong],
    }


WRITTEN: list[dict[str, Any]] = [
    # --- answer from a passage ---
    _case(
        "de", "passage", "medium",
        "Hausmitteilung: Der Aufzug im Nordflügel wird vom 6. bis zum 9. Mai gewartet. In dieser "
        "Zeit ist nur die Treppe nutzbar. Post für den dritten Stock wird am Empfang gesammelt.\n\n"
        "Wo wird die Post für den dritten Stock während der Wartung gesammelt, und ab welchem Tag? "
        "Antworte in einem vollständigen Satz.",
        {"has": [["Empfang"], ["6. Mai", "6.5", "06.05", "sechsten Mai", "6. bis"]]},
        ["Die Post für den dritten Stock wird ab dem 6. Mai am Empfang gesammelt.",
         "Sie wird vom 6. bis zum 9. Mai am Empfang gesammelt."],
        [("The mail for the third floor is collected at the reception from 6 May.",
          "wrong_language"),
         ("Die Post wird ab dem 9. Mai am Empfang gesammelt.", "missing"),
         ("Die Post wird ab dem 6. Mai am Empfang gesammelt. The mail for the third floor is "
          "collected there from 6 May on.", "mixed_language")],
    ),
    _case(
        "pl", "passage", "easy",
        "Stołówka informuje: od przyszłego tygodnia obiady wydajemy do godziny 15:30. Zupa dnia "
        "kosztuje 9 złotych, a drugie danie 24 złote.\n\nIle kosztuje drugie danie i do której "
        "godziny można zjeść obiad? Odpowiedz jednym zdaniem.",
        {"has": [["24", "dwadzieścia cztery"], ["15:30", "15.30", "wpół do czwartej"]]},
        ["Drugie danie kosztuje 24 złote, a obiady są wydawane do godziny 15:30."],
        [("The main course is 24 zlotys and lunch can be had until 15:30.", "wrong_language"),
         ("Drugie danie kosztuje 9 złotych, a obiad można zjeść do 15:30.", "missing")],
    ),
    _case(
        "ja", "passage", "hard",
        "社内連絡：来週の木曜日、三階の会議室は改装工事のため使えません。営業部の打ち合わせは二階の食堂で行い、"
        "時間は午前10時から午前11時に変更します。\n\n営業部の打ち合わせはどこで、何時に始まりますか。一文で答えて"
        "ください。",
        {"has": [["食堂"], ["11時", "十一時", "11:00"]]},
        ["営業部の打ち合わせは二階の食堂で、午前11時に始まります。",
         "打ち合わせは食堂で１１時に始まります。"],
        [("The meeting of the sales team is in the canteen and starts at 11 am.",
          "wrong_language"),
         ("Eigyobu no uchiawase wa nikai no shokudo de gozen juichi ji ni hajimarimasu.",
          "wrong_script"),
         ("営業部の打ち合わせは二階の食堂で、午前10時に始まります。", "missing")],
    ),
    _case(
        "ar", "passage", "medium",
        "تنبيه للموظفين: سيُغلق موقف السيارات الشرقي لمدة ثلاثة أيام بسبب أعمال الطلاء. يمكن استخدام "
        "الموقف الغربي مجانًا، وعدد أماكنه 45 مكانًا.\n\nأي موقف يمكن استخدامه وكم عدد أماكنه؟ أجب "
        "بجملة واحدة.",
        {"has": [["الغربي"], ["45", "خمسة وأربعون", "خمسة وأربعين"]]},
        ["يمكن استخدام الموقف الغربي، وعدد أماكنه 45 مكانًا.",
         "يمكن استخدام الموقف الغربي، وعدد أماكنه ٤٥ مكانًا."],
        [("The western car park can be used and it has 45 places.", "wrong_language"),
         ("Yumkin istikhdam al-mawqif al-gharbi wa adad amakinih 45.", "wrong_script"),
         ("يمكن استخدام الموقف الشرقي، وعدد أماكنه 45 مكانًا.", "missing")],
    ),
    # --- countable constraint ---
    _case(
        "fr", "constraint", "medium",
        "Un nouveau collègue commence lundi. Écris exactement deux lignes pour l'accueillir : une "
        "phrase par ligne, sans aucun chiffre.",
        {"lines": 2, "no_digits": True},
        ["Bienvenue dans notre équipe !\nNous sommes très heureux de travailler avec toi.",
         "Nous te souhaitons la bienvenue.\nN'hésite pas à nous poser tes questions."],
        [("Welcome to our team!\nWe are very happy to work with you.", "wrong_language"),
         ("Bienvenue dans notre équipe ! Nous sommes très heureux de travailler avec toi.",
          "wrong_count"),
         ("Bienvenue dans notre équipe !\nTon bureau est le 12, avec nous.", "digits")],
    ),
    _case(
        "tr", "constraint", "easy",
        "Ofis mutfağı için tam olarak üç kural yaz. Her kural ayrı bir satırda olsun ve hiç rakam "
        "kullanma.",
        {"lines": 3, "no_digits": True},
        ["Bardağınızı her zaman yıkayın.\nMasayı temiz bırakın.\nBuzdolabına adınızı yazın.",
         "Lütfen bulaşıkları biriktirmeyin.\nÇöpü ayırın.\nKahve biterse yenisini yapın."],
        [("Always wash your cup.\nLeave the table clean.\nWrite your name on your food.",
          "wrong_language"),
         ("Bardağınızı yıkayın.\nMasayı temiz bırakın.", "wrong_count"),
         ("1. Bardağınızı yıkayın.\n2. Masayı temiz bırakın.\n3. Çöpü ayırın.", "digits")],
    ),
    _case(
        "ko", "constraint", "medium",
        "고객에게 보내는 사과 문장을 정확히 두 줄로 쓰세요. 한 줄에 한 문장씩 쓰고, 숫자와 영어는 쓰지 마세요. "
        "배송이 늦어진 상황입니다.",
        {"lines": 2, "no_digits": True, "has": [["배송", "배달"]]},
        ["배송이 늦어져서 대단히 죄송합니다.\n앞으로 같은 일이 없도록 노력하겠습니다.",
         "배송 지연으로 불편을 드려 죄송합니다.\n빠른 시일 안에 받으실 수 있도록 하겠습니다."],
        [("We are sorry for the late delivery.\nWe will do our best in the future.",
          "wrong_language"),
         ("배송이 늦어져서 죄송합니다. 앞으로 노력하겠습니다.", "wrong_count"),
         ("배송이 3일 늦어져서 죄송합니다.\n앞으로 노력하겠습니다.", "digits")],
    ),
    _case(
        "hi", "constraint", "hard",
        "कार्यालय में बिजली बचाने के ठीक चार उपाय लिखिए। हर उपाय अलग पंक्ति में हो, कोई अंक न हो, और 'बिजली' शब्द "
        "कम से कम एक बार आए।",
        {"lines": 4, "no_digits": True, "has": [["बिजली"]]},
        ["बाहर जाते समय बिजली बंद करें।\nदिन में खिड़की की रोशनी का उपयोग करें।\nपंखे को धीमा रखें।\nकंप्यूटर को रात "
         "में बंद कर दें।"],
        [("Switch off the light when you leave.\nUse daylight.\nKeep the fan slow.\nShut down the "
          "computer at night.", "wrong_language"),
         ("बाहर जाते समय बिजली बंद करें।\nपंखे को धीमा रखें।", "wrong_count"),
         ("बाहर जाते समय 5 मिनट पहले बिजली बंद करें।\nरोशनी का उपयोग करें।\nपंखे को धीमा रखें।\nकंप्यूटर बंद कर दें।",
          "digits")],
    ),
    # --- translation ---
    _case(
        "es", "translation", "medium",
        "Translate into Spanish. Use 'almacén' for 'warehouse' and keep names and figures.\n\n"
        "The warehouse in Saltmere will be closed for 12 days because the roof has to be repaired.",
        {"has": [["almacén"], ["Saltmere"], ["12", "doce"], ["techo", "tejado", "cubierta"]]},
        ["El almacén de Saltmere permanecerá cerrado 12 días porque hay que reparar el techo.",
         "El almacén de Saltmere estará cerrado durante doce días porque se debe reparar el tejado."],
        [("The warehouse in Saltmere will be closed for 12 days because the roof has to be "
          "repaired.", "wrong_language"),
         ("O almacén de Saltmere vai ficar fechado por 12 dias porque o techo tem de ser reparado, "
          "e isso não é bom para nós.", "wrong_language"),
         ("El almacén de Saltmere estará cerrado 20 días porque hay que reparar el techo.",
          "missing")],
    ),
    _case(
        "de", "translation", "hard",
        "Translate into German, in formal address. Use 'Liefertermin' for 'delivery date'.\n\n"
        "Dear Ms Brandt, we are sorry that your order 4471-K has been delayed. The new delivery "
        "date is 3 June.",
        {"has": [["Brandt"], ["4471-K"], ["Liefertermin"], ["3. Juni", "03.06", "3.6",
                                                           "dritte Juni"], ["Ihre", "Ihr"]]},
        ["Sehr geehrte Frau Brandt, es tut uns leid, dass sich Ihre Bestellung 4471-K verzögert "
         "hat. Der neue Liefertermin ist der 3. Juni."],
        [("Dear Ms Brandt, we are sorry that your order 4471-K has been delayed. The new delivery "
          "date is 3 June.", "wrong_language"),
         ("Hallo Frau Brandt, leider hat sich deine Bestellung 4471-K verzögert. Der neue "
          "Liefertermin ist der 3. Juni.", "missing"),
         ("Sehr geehrte Frau Brandt, Ihre Bestellung 4471-K kommt später. Der neue Termin ist der "
          "3. Juni.", "missing")],
    ),
    _case(
        "zh", "translation", "medium",
        "Translate into Chinese (simplified). Use '合同' for 'contract' and leave the company name "
        "in Latin letters.\n\nThe contract with Lumbergate runs for 24 months and can be extended "
        "once.",
        {"has": [["合同"], ["Lumbergate"], ["24", "二十四", "两年"], ["一次"]]},
        ["与Lumbergate的合同为期24个月，可以延长一次。",
         "与 Lumbergate 的合同期限为二十四个月，可续签一次。"],
        [("The contract with Lumbergate runs for 24 months and can be extended once.",
          "wrong_language"),
         ("Yu Lumbergate de hetong weiqi 24 ge yue, keyi yanchang yici.", "wrong_script"),
         ("与Lumbergate的协议为期24个月，可以延长一次。", "missing")],
    ),
    _case(
        "ja", "translation", "easy",
        "Translate into Japanese, in polite style. Use '会議室' for 'meeting room'.\n\n"
        "The meeting room on floor 5 is free from 2 pm on Tuesday.",
        {"has": [["会議室"], ["5階", "五階"], ["2時", "二時", "14時", "十四時"], ["火曜"]]},
        ["5階の会議室は火曜日の午後2時から空いています。",
         "五階の会議室は、火曜日の14時以降は空いております。"],
        [("The meeting room on floor 5 is free from 2 pm on Tuesday.", "wrong_language"),
         ("Gokai no kaigishitsu wa kayobi no gogo niji kara aite imasu.", "wrong_script"),
         ("5階の会議室は水曜日の午後2時から空いています。", "missing")],
    ),
    # --- classification ---
    _case(
        "it", "classification", "medium",
        "Qual è il tono di questo messaggio? Rispondi con una sola parola: positivo, negativo o "
        "neutro.\n\n«Il tecnico è arrivato con due ore di ritardo, ma ha risolto tutto in dieci "
        "minuti ed è stato gentilissimo. Lo richiamerei subito.»",
        {"has": [["positivo"]], "lacks": ["negativo", "neutro"]},
        ["positivo", "Positivo."],
        [("positive", "missing"), ("negativo", "missing"),
         ("positivo, negativo o neutro", "rival")],
    ),
    _case(
        "fr", "classification", "easy",
        "À quel service faut-il transmettre ce message ? Réponds par un seul nom : comptabilité, "
        "informatique, entretien.\n\n« La porte du garage ne ferme plus depuis ce matin et il pleut "
        "à l'intérieur. »",
        {"has": [["entretien"]], "lacks": ["comptabilité", "informatique"]},
        ["entretien", "Entretien"],
        [("maintenance", "missing"), ("informatique", "missing"),
         ("entretien ou informatique", "rival")],
    ),
    _case(
        "ar", "classification", "medium",
        "حدّد درجة الأولوية لهذه الرسالة. أجب بكلمة واحدة فقط: عاجلة أو عادية.\n\n«توقفت آلة التعبئة عن "
        "العمل، وهناك شاحنة تنتظر عند البوابة منذ نصف ساعة. نحتاج فنيًا فورًا.»",
        {"has": [["عاجلة"]], "lacks": ["عادية"]},
        ["عاجلة", "عاجلة."],
        [("urgent", "wrong_script"), ("عادية", "missing"), ("عاجلة أو عادية", "rival")],
    ),
    _case(
        "ko", "classification", "hard",
        "다음 문의를 하나의 부서로 보내야 합니다. 부서 이름만 답하세요: 인사, 회계, 시설.\n\n\"지난달 급여 명세서에 "
        "연차가 이틀 적게 표시되어 있습니다. 금액은 맞으니 연차 기록만 고쳐 주세요.\"",
        {"has": [["인사"]], "lacks": ["회계", "시설"]},
        ["인사", "인사."],
        [("HR", "wrong_script"), ("회계", "missing"), ("인사, 회계", "rival")],
    ),
    # --- local formats ---
    _case(
        "pt", "formats", "medium",
        "Reescreva a frase em português, com a data e o valor no formato local: 'Payment of EUR "
        "2,450.75 was received on 2032-08-21.'",
        {"has": [["2.450,75", "2450,75", "2 450,75"],
                 ["21/08/2032", "21/8/2032", "21 de agosto de 2032", "21.08.2032"]],
         "as_written": True},
        ["O pagamento de 2.450,75 euros foi recebido em 21/08/2032.",
         "O pagamento de EUR 2450,75 foi recebido no dia 21 de agosto de 2032."],
        [("O pagamento de 2,450.75 euros foi recebido em 21/08/2032.", "missing"),
         ("O pagamento de 2.450,75 euros foi recebido em 2032-08-21.", "missing"),
         ("The payment of 2.450,75 euros was received on 21/08/2032.", "wrong_language")],
    ),
    _case(
        "es", "formats", "hard",
        "Escribe en una frase que la temperatura media fue de 18.5 grados y que 3.25 de cada 10 "
        "sensores fallaron el 2033-02-17. Usa la coma decimal y la fecha con el nombre del mes.",
        {"has": [["18,5"], ["3,25"], ["17 de febrero de 2033", "17 de febrero del 2033"]],
         "as_written": True},
        ["La temperatura media fue de 18,5 grados y 3,25 de cada 10 sensores fallaron el 17 de "
         "febrero de 2033."],
        [("La temperatura media fue de 18.5 grados y 3.25 de cada 10 sensores fallaron el 17 de "
          "febrero de 2033.", "missing"),
         ("La temperatura media fue de 18,5 grados y 3,25 de cada 10 sensores fallaron el "
          "17/02/2033.", "missing"),
         ("The mean temperature was 18,5 degrees and 3,25 of 10 sensors failed on 17 de febrero de "
          "2033.", "mixed_language")],
    ),
    _case(
        "hi", "formats", "medium",
        "एक वाक्य में लिखिए कि बैठक 2031-09-05 को है और बजट 250000 रुपये है। तारीख महीने के नाम के साथ और राशि भारतीय "
        "ढंग से अल्पविराम लगाकर लिखिए।",
        {"has": [["5 सितंबर 2031", "5 सितम्बर 2031", "5 सितंबर, 2031", "05 सितंबर 2031"],
                 ["2,50,000"]], "as_written": True},
        ["बैठक 5 सितंबर 2031 को है और बजट 2,50,000 रुपये है।",
         "बैठक ५ सितंबर २०३१ को है और बजट २,५०,००० रुपये है।"],
        [("बैठक 5 सितंबर 2031 को है और बजट 250,000 रुपये है।", "missing"),
         ("The meeting is on 5 September 2031 and the budget is 2,50,000 rupees.",
          "wrong_language"),
         ("Baithak 5 sitambar 2031 ko hai aur bajat 2,50,000 rupaye hai.", "wrong_script")],
    ),
    _case(
        "pl", "formats", "easy",
        "Napisz jednym zdaniem po polsku, że przesyłka waży 2.75 kg i wyjechała 2031-11-04. Użyj "
        "przecinka dziesiętnego i polskiego zapisu daty.",
        {"has": [["2,75"], ["4.11.2031", "04.11.2031", "4 listopada 2031"]], "as_written": True},
        ["Przesyłka waży 2,75 kg i wyjechała 4 listopada 2031 r.",
         "Przesyłka waży 2,75 kg i została wysłana 04.11.2031."],
        [("Przesyłka waży 2.75 kg i wyjechała 4 listopada 2031.", "missing"),
         ("The parcel weighs 2,75 kg and left on 4.11.2031 from the depot.", "wrong_language")],
    ),
    # --- question in one language, answer in another ---
    _case(
        "it", "cross", "medium",
        "Bitte antworte auf Italienisch, in einem Satz.\n\nDer Zug nach Valdessa fährt um 8:42 Uhr "
        "von Gleis 7, nicht wie üblich von Gleis 2. Von welchem Gleis fährt er?",
        {"has": [["7", "sette"]], "lacks": ["2", "due"]},
        ["Il treno per Valdessa parte dal binario 7.", "Parte dal binario sette alle 8:42."],
        [("Der Zug fährt von Gleis 7 und nicht von Gleis zwei ab.", "wrong_language"),
         ("Il treno per Valdessa parte dal binario 2.", "missing"),
         ("The train to Valdessa leaves from platform 7 at 8:42, as it is said.",
          "wrong_language")],
    ),
    _case(
        "pt", "cross", "easy",
        "Answer in Portuguese, with one sentence: A form has 14 fields, 5 of them are optional. How "
        "many fields are mandatory?",
        {"has": [["9", "nove"]]},
        ["Nove campos são obrigatórios.", "São 9 os campos obrigatórios do formulário."],
        [("Nine of the 14 fields are mandatory and 9 must be filled.", "wrong_language"),
         ("São obrigatórios 14 campos.", "missing")],
    ),
    _case(
        "tr", "cross", "hard",
        "Réponds en turc, en une phrase : Le magasin ouvre à 9 h et ferme à 19 h, mais le samedi il "
        "ferme trois heures plus tôt. À quelle heure ferme-t-il le samedi ?",
        {"has": [["16", "16:00", "16.00", "16'da", "on altıda", "dörtte"]]},
        ["Mağaza cumartesi günü saat 16.00'da kapanıyor.", "Cumartesi günleri saat 16'da kapanır."],
        [("Le samedi, le magasin ferme à 16 heures pour la journée.", "wrong_language"),
         ("The shop is closed at 16 on Saturdays, as they have said.", "wrong_language"),
         ("Mağaza cumartesi günü saat 19.00'da kapanıyor.", "missing")],
    ),
    _case(
        "zh", "cross", "medium",
        "请用中文回答，只写一句话。\n\nThe pump needs 6 litres of oil. The tank of the workshop holds "
        "20 litres, and 9 have been used. How many litres are left after the pump has been filled?",
        {"has": [["5", "五"]]},
        ["给水泵加油之后还剩5升。", "还剩下五升油。"],
        [("There are 5 litres left after the pump has been filled.", "wrong_language"),
         ("Jia you zhihou hai sheng wu sheng, 5.", "wrong_script"),
         ("给水泵加油之后还剩11升。", "missing")],
    ),
]  # fmt: skip
