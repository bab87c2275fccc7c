# ruff: noqa: E501
"""Does a prompt ask for an answer in another language than its own? Decided by language names, without a model.

The names are those of CLDR (Unicode Common Locale Data Repository, as Babel prints them), shortened to stems where
the language inflects them, with the spellings and second names in common use ("Mandarin", "英文") added. Most European
languages use one word for the language and for the nation ("French fries"), so a name counts only in a phrase that
says in which language something is put: "in French", "auf Französisch", "на французском", "フランス語で". A name that is
an everyday word or a country in that form counts only with the word "language" (in Hindi "चीनी में" is "in sugar").

The phrases of English, Spanish, French, German, Russian, Chinese and Japanese were tried on 26,000 real prompts; those
of the others only on the sentences of `tests/languages/test_language_names.py`. Other phrases are missed: Turkish adds nothing to
"İngilizce" for "in English", so it counts only before a verb such as "yaz" (write). A language of the table that is
not in this module is recognised by its words for "translate".
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache

from lidr.languages import LANGUAGES, get_language

# Row: the language of the prompt. Columns: the language named, in the order of the first line; `|` between spellings,
# `_` for a space.
_COLUMNS = (
    "en es fr de ru it zh ja ko th sw bn te ar "
    "pt ca ro nl sv da fi et lt pl cs sk hr hu tr id vi uk bg el he fa ur hi mr gu pa ta kn ml"
)
_NAMES = {
    "en": "English Spanish French German Russian Italian Chinese|Mandarin Japanese Korean Thai Swahili|Kiswahili Bengali|Bangla Telugu Arabic Portuguese Catalan Romanian Dutch Swedish Danish Finnish Estonian Lithuanian Polish Czech Slovak Croatian Hungarian Turkish Indonesian|Bahasa Vietnamese Ukrainian Bulgarian Greek Hebrew Persian|Farsi Urdu Hindi Marathi Gujarati Punjabi|Panjabi Tamil Kannada Malayalam",
    "es": r"ingl[eé]s|inglesa español|española|castellan[oa] franc[eé]s|francesa alem[aá]n|alemana rus[oa] italian[oa] chino|mandar[ií]n japon[eé]s|japonesa corean[oa] tailand[eé]s|tailandesa suajili|swahili bengal[ií] telugu [aá]rabe portugu[eé]s|portuguesa catal[aá]n|catalana ruman[oa] (?:neerland|holand)(?:[eé]s|esa) suec[oa] dan[eé]s|danesa fin[eé]s|finesa|finland[eé]s|finlandesa estoni[oa] lituan[oa] polac[oa] chec[oa] eslovac[oa] croata h[uú]ngar[oa] turc[oa] indonesi[oa] vietnamita ucranian[oa] b[uú]lgar[oa] grieg[oa] hebre[oa] persa|farsi urd[uú] hindi marat[ií]|marathi guyarat[ií]|gujarati punyab[ií]|punjabi tamil(?!\s+Nadu) canar[eé]s|kannada malay[aá]lam",
    "fr": "anglaise? espagnole? française?|francais allemande? russe italien(?:ne)? chinoise?|mandarin japonaise? coréen(?:ne)? thaï(?:landais)? swahili|kiswahili bengali télougou|telugu arabe portugaise? catalane? roumaine? néerlandaise?|hollandaise? suédoise? danoise? finnoise?|finlandaise? estonien(?:ne)? lituanien(?:ne)? polonaise? tchèque slovaque croate hongroise? turc|turque indonésien(?:ne)? vietnamien(?:ne)? ukrainien(?:ne)? bulgare grec(?:que)? hébreu|hébraïque persane?|farsi ourdou|urdu hindi marathi goudjarati|gujarati pendjabi|punjabi tamoule? kannada malayalam",
    "de": r"Englisch Spanisch Französisch Deutsch Russisch Italienisch Chinesisch|Mandarin Japanisch Koreanisch Thailändisch|Thai Suaheli|Swahili|Kisuaheli Bengalisch|Bengali Telugu Arabisch Portugiesisch Katalanisch Rumänisch Niederländisch|Holländisch Schwedisch Dänisch Finnisch Estnisch Litauisch Polnisch Tschechisch Slowakisch Kroatisch Ungarisch Türkisch Indonesisch Vietnamesisch Ukrainisch Bulgarisch Griechisch Hebräisch Persisch|Farsi Urdu Hindi Marathi Gujarati Punjabi|Pandschabi Tamil(?:isch)?(?!\s+Nadu) Kannada Malayalam",
    "ru": "английск испанск французск немецк русск итальянск китайск японск корейск тайск суахили бенгальск телугу арабск португальск катал[ао]нск румынск нидерландск|голландск шведск датск финск эстонск литовск польск чешск словацк хорватск венгерск турецк индонезийск вьетнамск украинск болгарск греческ иврите?|еврейск персидск|фарси урду хинди маратхи гуджарати панджаби|пенджабск тамильск каннада малаялам",
    "it": r"inglese spagnol[oa] francese tedesc[oa] russ[oa] italian[oa] cinese|mandarino giapponese corean[oa] thai(?:landese)?|tailandese swahili bengalese|bengali telugu arab[oa] portoghese catalan[oa] r[uo]men[oa] olandese|neerlandese svedese danese finlandese estone lituan[oa] polacc[oa] cec[oa] slovacc[oa] croat[oa] ungherese turc[oa] indonesian[oa] vietnamita ucrain[oa] bulgar[oa] grec[oa] ebraic[oa] persian[oa]|farsi urdu hindi marathi gujarati punjabi tamil(?!\s+Nadu) kannada malayalam",
    "zh": "英[语語文] 西班牙[语語文]|西[语語] 法[语語文] 德[语語文] 俄[语語文]|[俄罗]斯[语語] [意義]大利[语語文] 中文|[汉漢][语語]|[华華][语語]|普通[话話] 日[语語文] [韩韓][语語文] 泰[语語文] 斯瓦希里[语語] 孟加拉[语語文] 泰[卢盧]固[语語] 阿拉伯[语語文] 葡萄牙[语語文]|葡[语語文] 加泰[罗羅]尼[亚亞][语語文] [罗羅][马馬]尼[亚亞][语語文] 荷[兰蘭][语語文] 瑞典[语語文] 丹[麦麥][语語文] 芬[兰蘭][语語文] [爱愛]沙尼[亚亞][语語文] 立陶宛[语語文] 波[兰蘭][语語文] 捷克[语語文] 斯洛伐克[语語文] 克[罗羅]地?[亚亞][语語文] 匈牙利[语語文] 土耳其[语語文] 印(?:度尼西[亚亞]|尼)[语語文] 越南?[语語文] [乌烏]克[兰蘭][语語文] 保加利[亚亞][语語文] 希[腊臘][语語文] 希伯[来來][语語文] 波斯[语語文] [乌烏][尔爾]都[语語文] 印地[语語文] [马馬]拉地[语語文] 古吉拉特[语語文] 旁遮普[语語文] 泰米[尔爾][语語文] 卡[纳納][达達][语語文] [马馬]拉雅拉姆[语語文]",
    "ja": "英語 スペイン語 フランス語|仏語 ドイツ語|独語 ロシア語 イタリア語 中国語 日本語 韓国語|朝鮮語 タイ語 スワヒリ語 ベンガル語 テルグ語 アラビア語 ポルトガル語 カタロニア語|カタルーニャ語 ルーマニア語 オランダ語 スウェーデン語 デンマーク語 フィンランド語 エストニア語 リトアニア語 ポーランド語 チェコ語 スロバキア語|スロヴァキア語 クロアチア語 ハンガリー語 トルコ語 インドネシア語 ベトナム語 ウクライナ語 ブルガリア語 ギリシ[ャア]語 ヘブライ語 ペルシ[ャア]語 ウルドゥー?語 ヒン(?:ディー?|ドゥー)語 マラーティー?語 グジャラート語|グジャラーティー語 パンジャ(?:ブ|ービー)語 タミル語 カンナダ語 マラヤーラム語",
    "ko": "영어|영문 스페인어 프랑스어|불어 독일어 러시아어 이탈리아어 중국어 일본어|일어 한국어|한글 태국어 스와힐리어 벵골어|벵갈어 텔루구어 아랍어 포르투갈어 카탈로니아어|카탈루냐어 루마니아어 네덜란드어 스웨덴어 덴마크어 핀란드어 에스토니아어 리투아니아어 폴란드어 체코어 슬로바키아어 크로아티아어 헝가리어 튀르키예어|터키어 인도네시아어 베트남어 우크라이나어 불가리아어 그리스어 히브리어 페르시아어 우르두어 힌디어 마라티어 구자라트어 펀자[브비]어 타밀어 칸나다어 말라얄람어",
    "th": "อังกฤษ สเปน ฝรั่งเศส เยอรมัน รัสเซีย อิตาลี|อิตาเลียน จีน ญี่ปุ่น เกาหลี ไทย สวาฮีลี บังกลา|เบงกาลี เตลูกู อาหรับ|อารบิก โปรตุเกส คาตาลัน โรมาเนีย ดัตช์|เนเธอร์แลนด์ สวีเดน เดนมาร์ก ฟินแลนด์ เอสโตเนีย ลิทัวเนีย โปแลนด์ เช็[กค] สโลวัก โครเอเชีย ฮังการี ตุรกี อินโดนีเซีย เวียดนาม ยูเครน บัลแกเรีย กรีก ฮิบรู|ฮีบรู เปอร์เซีย อูรดู|อุรดู ฮินดี มราฐี|มาราฐี คุชราต ปัญจาบ ทมิฬ กันนาดา มาลายาลัม",
    "sw": "Kiingereza Kihispania Kifaransa Kijerumani Kirusi Kiitaliano Kichina Kijapani Kikorea Kithai Kiswahili Kibengali|Kibangla Kitelugu Kiarabu Kireno Kikatalani Kiromania Kiholanzi Kiswidi Kidenmaki|Kideni Kifini Kiestonia Kilithuania Kipolandi Kicheki Kislovakia Kikorasia|Kikroatia Kihungari|Kihungaria Kituruki Kiindonesia Kivietinamu Kiukraini|Kiukraina Kibulgaria Kigiriki Kiebrania Kiajemi Kiurdu Kihindi Kimarathi Kigujarati Kipunjabi Kitamili Kikannada Kimalayalamu?",
    "bn": "ইংরেজি|ইংরাজি স্প্যানিশ ফরাসি|ফ্রেঞ্চ জার্মান রুশ|রাশিয়ান ইতালিয়|ইতালীয়|ইতালিয়ান চীনা|চাইনিজ জাপানি|জাপানী কোরিয়ান|কোরীয় থাই সোয়াহিলি বাংলা তেলুগু|তেলেগু আরবি পর্তুগিজ কাতালান রোমানীয়|রোমানিয়ান ওলন্দাজ|ডাচ সুইডিশ ডেনিশ ফিনিশ এস্তোনীয়|এস্তোনিয়ান লিথুয়ানীয়|লিথুয়ানিয়ান পোলিশ চেক স্লোভাক ক্রোয়েশীয়|ক্রোয়েশিয়ান হাঙ্গেরীয়|হাঙ্গেরিয়ান তুর্কি ইন্দোনেশীয়|ইন্দোনেশিয়ান ভিয়েতনাম[িী] ইউক্রেনীয়|ইউক্রেনিয়ান বুলগেরীয়|বুলগেরিয়ান গ্রিক হিব্রু ফারসি উর্দু হিন্দি মারাঠি গুজরাটি পাঞ্জাবি তামিল কন্নড় মালয়ালম",
    "te": r"ఇంగ్లీష్|ఇంగ్లీషు|ఇంగ్లిష్|ఆంగ్లం|ఆంగ్ల స్పానిష్ ఫ్రెంచ్|ఫ్రెంచి జర్మన్ రష్యన్ ఇటాలియన్ చైనీస్ జపనీస్|జపనీ కొరియన్ థాయ్ స్వాహిలి బంగ్లా|బెంగాలీ తెలుగు అరబిక్|అరబ్బీ పోర్చుగీస్ కాటలాన్ రొమేనియన్ డచ్ స్వీడిష్ డానిష్ ఫిన్నిష్ ఎస్టోనియన్ లిథువేనియన్ పోలిష్ చెక్(?=[\s\u200c]*భాష) స్లోవక్ క్రొయేషియన్ హంగేరియన్ టర్కిష్ ఇండోనేషియన్ వియత్నామీస్ ఉక్రె(?:యి)?నియన్ బల్గేరియన్ గ్రీక్|గ్రీకు హీబ్రూ పర్షియన్ ఉర్దూ హిందీ మరాఠీ గుజరాతీ పంజాబీ తమిళ(?:ం)? కన్నడ(?:ం)? మలయాళ(?:ం)?",
    "ar": "[إا]نجليزي|[إا]نكليزي [إا]سباني فرنسي [أا]لماني روسي [إا]يطالي صيني ياباني كوري تايلاندي سواحيلي|سواحلي بنغالي تيلوغوي|تيلوجوي عربي برتغالي كتالاني|كتالوني روماني هولندي سويدي دانمركي|دانماركي|دنماركي فنلندي [إا]ستوني ليتواني بولندي تشيكي سلوفاكي كرواتي هنغاري|مجري تركي [إا]ندونيسي فيتنامي [أا]وكراني بلغاري يوناني عبري فارسي [أا]وردي|[أا]ردي هندي ماراثي|مراثي غوجاراتي بنجابي تاميلي كانادي|كنادي مالايالامي",
    "pt": r"ingl[eê]s|inglesa espanhola?|castelhan[oa] franc[eê]s|francesa alem[aã]o|alemã russ[oa] italian[oa] chin[eê]s|chinesa|mandarim japon[eê]s|japonesa corean[oa] tailand[eê]s|tailandesa su[aá][ií]li|swahili bengal[ií] t[eé]lug[ou] [aá]rabe portugu[eê]s|portuguesa catal[aã]o|catalã romen[oa] (?:holand|neerland)(?:[eê]s|esa) suec[oa] dinamarqu[eê]s|dinamarquesa finland[eê]s|finlandesa estonian[oa] lituan[oa] polon[eê]s|polonesa|polac[oa] t?chec[oa] eslovac[oa] croata h[uú]ngar[oa] turc[oa] indon[eé]si[oa] vietnamita ucranian[oa] b[uú]lgar[oa] greg[oa] hebraic[oa] persa|farsi urdu hindi marati guzerate|gujarati panjabi t[aâ]mil(?!\s+Nadu) canarim|kannada malaiala",
    "ca": "anglès|anglesa espanyola?|castell(?:à|ana) francès|francesa alemany rus|russa italià|italiana xinès|xinesa|mandarí japonès|japonesa coreà|coreana tai|tailandès suahili bengalí telugu àrab portuguès|portuguesa català|catalana romanès|romanesa neerlandès|neerlandesa|holandès|holandesa suec|sueca danès|danesa finès|finesa|finlandès estonià|estoniana lituà|lituana polonès|polonesa txec|txeca eslovac|eslovaca croata? hongarès|hongaresa turca? indonesi|indonèsia vietnamita ucraïnès|ucraïnesa búlgara? grec|grega hebreu|hebrea persa urdú hindi marathi gujarati panjabi tàmil kannada malaiàlam",
    "ro": "englez[ăa] spaniol[ăa] francez[ăa] german[ăa] rus[ăa] italian[ăa] chinez[ăa]|mandarin[ăa] japonez[ăa] coree?an[ăa] thailandez[ăa]|thai swahili bengal(?:ez[ăa]|i) telugu arab[ăa] portughez[ăa] catalan[ăa] român[ăa] neerlandez[ăa]|olandez[ăa] suedez[ăa] danez[ăa] finlandez[ăa] eston[ăa]|estonian[ăa] lituanian[ăa] polonez[ăa] ceh[ăa] slovac[ăa] croat[ăa] maghiar[ăa]|ungar[ăa] turc[ăa] indonezian[ăa] vietnamez[ăa] ucrainean[ăa] bulgar[ăa] greac[ăa] ebraic[ăa] persan[ăa]|farsi urdu hindi marathi gujarati punjabi tamil[ăa] kannada malayalam",
    "nl": r"Engels Spaans Frans Duits Russisch Italiaans Chinees|Mandarijn Japans Koreaans Thai|Thais Swahili Bengaals|Bengali Telugu Arabisch Portugees Catalaans Roemeens Nederlands Zweeds Deens Fins Est(?:isch|s) Litouws Pools Tsjechisch Slowaaks Kroatisch Hongaars Turks Indonesisch Vietnamees Oekraïens Bulgaars Grieks Hebreeuws Perzisch|Farsi Urdu Hindi Marathi Gujarati Punjabi Tamil(?!\s+Nadu) Kannada Malayalam",
    "sv": "engelska spanska franska tyska ryska italienska kinesiska|mandarin japanska koreanska thailändska|thai swahili bengali|bengaliska telugu arabiska portugisiska katalanska rumänska nederländska|holländska svenska danska finska estniska litauiska polska tjeckiska slovakiska kroatiska ungerska turkiska indonesiska vietnamesiska ukrainska bulgariska grekiska hebreiska persiska|farsi urdu hindi marathi gujarati punjabi tamil kannada malayalam",
    "da": "engelsk spansk fransk tysk russisk italiensk kinesisk|mandarin japansk koreansk thai|thailandsk swahili bengali telugu arabisk portugisisk catalansk|katalansk rumænsk nederlandsk|hollandsk svensk dansk finsk estisk litauisk polsk tjekkisk slovakisk kroatisk ungarsk tyrkisk indonesisk vietnamesisk ukrainsk bulgarsk græsk hebraisk persisk|farsi urdu hindi marathi gujarati punjabi tamil kannada malayalam",
    "fi": "englanni espanja ranska saksa venäjä italia kiina japani korea thai swahili bengali telugu arabia portugali katalaani romania hollanni ruotsi tanska suome viro liettua puola tšeki|tsheki slovaki kroatia|kroaati unkari turki indonesia vietnami ukraina bulgaria kreika heprea persia urdu hindi marathi gudžarati pandžabi tamili kannada malajalami",
    "et": "inglise hispaania prantsuse saksa vene itaalia hiina jaapani korea tai suahiili bengali telugu araabia portugali katalaani rumeenia hollandi rootsi taani soome eesti leedu poola tšehhi slovaki horvaadi ungari türgi indoneesia vietnami ukraina bulgaaria kreeka heebrea pärsia urdu hindi marathi gudžarati pandžabi tamili kannada malajalami",
    "lt": "angl ispan prancūz vokieči|vok rus ital kin japon korėjieči|korėjiet taj suahil bengal telug arab portugal katalon rumun oland|nyderland šved dan suomi? est lietuvi? lenk ček slovak kroat vengr turk indonezieči|indoneziet vietnamieči|vietnamiet ukrainieči|ukrainiet bulgar graik hebraj pers urd hindi? marat gudžarat pendžab tamil kanad malajal",
    "pl": "angielsk hiszpańsk francusk niemieck rosyjsk włosk chińsk japońsk koreańsk tajsk suahili bengalsk telugu arabsk portugalsk katalońsk rumuńsk niderlandzk|holendersk szwedzk duńsk fińsk estońsk litewsk polsk czesk słowack chorwack węgiersk tureck indonezyjsk wietnamsk ukraińsk bułgarsk greck hebrajsk persk urdu hindi marathi gudżarati pendżabsk tamilsk kannada malajalam",
    "cs": "angli(?:čtin|ck) španěl~ francouz~ něm(?:čin|eck) ru(?:štin|sk) ital~ čín~ japon~ korej~ thaj~ svahil~ bengál~ telug~ arab~ portugal~ katalán~ rumun~ nizozem~|holand~ švéd~ dán~ fin~ eston~ litev~ pol~ če(?:štin|sk) sloven~ chorvat~ maďar~ ture(?:čtin|ck) indoné~ vietnam~ ukrajin~ bulhar~ ře(?:čtin|ck) hebrej~ per~ urd~ hind~ maráth~ gudžarát~ paňdžáb~ tamil~ kannad~ malajálam~".replace("~", "(?:[šč]tin|čin|sk)"),
    "sk": "angli(?:čtin|ck) španiel~ francúz~ nem(?:čin|eck) ru(?:štin|sk) talian~ čín~ japon~ kórej~ thaj~ swahil~|svahil~ bengál~ telug~ arab~ portugal~ katalán~ rumun~ holand~ švéd~ dán~ fín~ estón~ litov~ poľ~ če(?:štin|sk) sloven~ chorvát~ maďar~ ture(?:čtin|ck) indonéz~ vietnam~ ukrajin~ bulhar~ gré(?:čtin|ck) hebrej~ perz~ urd~ hind~ maráth~ gudžarát~ pandžáb~ tamil~ kannad~ malajálam~".replace("~", "(?:[šč]tin|čin|sk)"),
    "hr": "englesk španjolsk francusk njemačk rusk talijansk kinesk japansk korejsk tajlandsk|tajsk svahili bengalsk|bangla telušk|telugu arapsk portugalsk katalonsk rumunjsk nizozemsk švedsk dansk finsk estonsk litavsk poljsk češk slovačk hrvatsk mađarsk tursk indonezijsk vijetnamsk ukrajinsk bugarsk grčk hebrejsk perzijsk urdsk|urdu hindsk|hindi marathsk gudžaratsk pandžapsk tamilsk karnatačk|kannada malajalamsk",
    "hu": "angol spanyol franci[aá] német orosz olasz kínai japán koreai thai szuahéli bangl[aá]|bengáli telugu arab portugál katalán román holland svéd dán finn észt litván lengyel cseh szlovák horvát magyar török indonéz vietnámi ukrán bolgár görög héber perzs[aá] urdu hindi maráthi gudzsaráti pandzsábi tamil kannad[aá] malajálam",
    "tr": "İngilizce İspanyolca Fransızca Almanca Rusça İtalyanca Çince Japonca Korece Tayca Svahili(?:ce)? Bengalce Telugu(?:ca)? Arapça Portekizce Katalanca Rumence|Romence Felemenkçe|Hollandaca İsveççe Danca Fince Estonca Litvanca Lehçe|Polonyaca Çekçe Slovakça Hırvatça Macarca Türkçe Endonezce|Endonezyaca Vietnamca Ukraynaca Bulgarca Yunanca İbranice Farsça Urduca Hintçe Marathi Güceratça|Gucerat[cç]a Pencapça Tamilce Kannada Malayalam",
    "id": "Inggris Spanyol Prancis|Perancis Jerman Rusia Italia Tionghoa|Mandarin|Cina|China Jepang Korea Thai(?:land)? Swahili Bengali Telugu Arab Portugis Katalan Rumania Belanda Swedia Dansk|Denmark Suomi|Finlandia Estonia Lituania Polski|Polandia Ceko Slovak(?:ia)? Kroasia Hungaria Turki Indonesia Vietnam Ukraina Bulgaria Yunani Ibrani Persia|Farsi Urdu Hindi Marathi Gujarat Punjabi Tamil Kannada Malayalam",
    "vi": "Anh Tây_Ban_Nha Pháp Đức Nga Ý|Italia Trung(?:_Quốc)?|Hoa|Quan_Thoại Nhật(?:_Bản)? Hàn(?:_Quốc)? Thái Swahili Bangla|Bengal Telugu Ả_Rập Bồ_Đào_Nha Catalan Romania|Rumani Hà_Lan Thụy_Điển Đan_Mạch Phần_Lan Estonia Litva Ba_Lan Séc Slovak(?:ia)? Croatia Hungary Thổ_Nhĩ_Kỳ Indonesia Việt Ukraina Bulgaria Hy_Lạp Do_Thái|Hebrew Ba_Tư Urdu Hindi Marathi Gujarati Punjab Tamil Kannada Malayalam",
    "uk": "англійськ іспанськ французьк німецьк російськ італійськ китайськ японськ корейськ тайськ суахілі бенгальськ телугу арабськ португальськ катал[оа]нськ румунськ нідерландськ|голландськ шведськ данськ фінськ естонськ литовськ польськ чеськ словацьк хорватськ угорськ турецьк індонезійськ в['’ʼ]?єтнамськ українськ болгарськ грецьк іврит перськ|фарсі урду [гх]інді маратхі гуджараті панджабі тамільськ каннада малаялам",
    "bg": "английски испански френски немски руски италиански китайски японски корейски тайландски|тайски суахили бенгалски телугу арабски португалски каталонски|каталунски румънски нидерландски|холандски шведски датски фински естонски литовски полски чешки словашки хърватски унгарски турски индонезийски виетнамски украински български гръцки иврит персийски|фарси урду хинди марати гуджарати пенджабски тамилски каннада малаялам",
    "el": "αγγλικ ισπανικ γαλλικ γερμανικ ρωσικ ιταλικ κινεζικ|κινέζικ ιαπωνικ κορεατικ ταϊλανδικ σουαχίλι βεγγαλικ τελούγκου αραβικ πορτογαλικ καταλανικ ρουμανικ ολλανδικ σουηδικ δανικ|δανέζικ φινλανδικ εσθονικ λιθουανικ πολωνικ τσεχικ|τσέχικ σλοβακικ|σλοβάκικ κροατικ ουγγρικ τουρκικ|τούρκικ ινδονησιακ βιετναμικ ουκρανικ βουλγαρικ|βουλγάρικ ελληνικ εβραϊκ περσικ|φαρσί ούρντου χίντι μαραθικ γκουτζαρατικ παντζαπικ ταμιλικ κανάντα μαλαγιαλαμικ",
    "he": "אנגלית ספרדית צרפתית גרמנית רוסית איטלקית סינית|מנדרינית יפנית קוריאנית תאית|תאילנדית סווהילי|סוואהילי בנגלית טלוגו ערבית פורטוגזית קטלאנית|קטלנית רומנית הולנדית שוודית|שבדית דנית פינית|פינלנדית אסטונית ליטאית פולנית צ['׳’]?כית סלובקית קרואטית הונגרית טורקית|תורכית אינדונזית וייטנאמית|וייטנמית אוקראינית בולגרית יוונית עברית פרסית אורדו הינדי מראטהית|מראטהי גוג['׳’]?ארטי פנג['׳’]?אבי טמילית קנאדה מליאלאם",
    "fa": r"انگلیسی اسپانیایی|اسپانیولی فرانسوی آلمانی روسی ایتالیایی چینی ژاپنی کره[\u200c\s]?ای تایلندی سواحیلی بنگالی تلوگویی|تلوگو عربی پرتغالی کاتالان رومانیایی هلندی سوئدی دانمارکی فنلاندی استونیایی لیتوانیایی لهستانی چکی اسلواکی کروات(?:ی)? مجاری|مجارستانی ترکی اندونزیایی ویتنامی اوکراینی بلغاری یونانی عبری فارسی اردو هندی مراتی|ماراتی گجراتی پنجابی تامیلی کانارا مالایالامی|مالایالم",
    "ur": r"انگریزی|انگلش ہسپانوی|اسپینش فرانسیسی|فرنچ جرمن روسی اطالوی چینی(?=\s+زبان) جاپانی کوریائی|کورین تھائی سواحلی بنگلہ|بنگالی تیلگو عربی پُ?رتگالی کیٹالان رومینین ڈچ سویڈش ڈینش فینیش|فنش اسٹونین لیتھوینین پولش چیک(?=\s+زبان) سلوواک کراتی|کروشیائی ہنگیرین ترکی(?=\s+زبان) انڈونیثیائی|انڈونیشیائی ویتنامی یوکرینیائی|یوکرینی بلغاری یونانی عبرانی فارسی اردو ہندی مراٹھی گجراتی پنجابی تمل|تامل کنّ?اڈا|کنڑ ملیالم",
    "hi": r"अंग्रेज़?ी|इंग्लिश स्पेनिश|स्पैनिश फ़?्रेंच|फ़?्रांसीसी जर्मन रूसी इतालवी|इटालियन चीनी(?=\s+भाषा)|चाइनीज़? जापानी कोरियाई|कोरियन थाई स्वाहिली बांग्ला|बंगाली तेलुगू|तेलुगु अरबी पुर्तगाली कातालान|कैटलन रोमानियाई डच स्वीडिश डेनिश फ़?िनिश एस्टोनियाई लिथुआनियाई पोलिश चेक(?=\s+भाषा) स्लोवाक क्रोएशियाई हंगेरियाई|हंगेरियन तुर्की(?=\s+भाषा) इंडोनेशियाई वियतनामी यूक्रेनियाई|यूक्रेनी बुल्गारियाई|बल्गेरियाई यूनानी|ग्रीक हिब्रू फ़?ारसी उर्दू हिन्दी|हिंदी मराठी गुजराती पंजाबी तमिल कन्नड़? मलयालम",
    "mr": r"इंग्रजी|इंग्लिश स्पॅनिश फ्रेंच जर्मन रशियन इटालियन चीनी|चिनी जपानी कोरियन थाई स्वाहिली बंगाली|बांगला तेलगू|तेलुगू अरबी पोर्तुगीज कातालान रोमानियन डच स्वीडिश डॅनिश फिनिश इस्टोनियन|एस्टोनियन लिथुआनियन पोलिश झेक स्लोव्हाक क्रोएशियन हंगेरियन तुर्की(?=\s+भाषे) इंडोनेशियन व्हिएतनामी युक्रेनियन बल्गेरियन ग्रीक हिब्रू फारसी उर्दू हिंदी|हिन्दी मराठी गुजराती पंजाबी तामिळ|तमिळ कन्नड मल्याळम",
    "gu": r"અંગ્રેજી|ઇંગ્લિશ સ્પેનિશ ફ્રેન્ચ|ફ્રેંચ જર્મન રશિયન ઇટાલિયન ચાઇનીઝ|ચીની જાપાનીઝ|જાપાની કોરિયન થાઈ સ્વાહિલી બાંગ્લા|બંગાળી તેલુગુ અરબી પોર્ટુગીઝ કતલાન રોમાનિયન ડચ સ્વીડિશ ડેનિશ ફિનિશ એસ્ટોનિયન લિથુઆનિયન પોલિશ ચેક(?=\s*ભાષા) સ્લોવૅક|સ્લોવાક ક્રોએશિયન હંગેરિયન ટર્કિશ ઇન્ડોનેશિયન વિયેતનામીસ|વિયેતનામી યુક્રેનિયન બલ્ગેરિયન ગ્રીક હીબ્રુ|હિબ્રુ ફારસી ઉર્દૂ|ઉર્દુ હિન્દી|હિંદી મરાઠી ગુજરાતી પંજાબી તમિલ|તમિળ કન્નડ મલયાલમ",
    "pa": r"ਅੰਗਰੇਜ਼?ੀ|ਇੰਗਲਿਸ਼? ਸਪੇਨੀ|ਸਪੈਨਿਸ਼? ਫਰਾਂਸੀਸੀ|ਫ਼ਰਾਂਸੀਸੀ|ਫ਼?ਰੈਂਚ ਜਰਮਨ ਰੂਸੀ ਇਤਾਲਵੀ ਚੀਨੀ(?=\s+(?:ਭਾਸ਼ਾ|ਬੋਲੀ)) ਜਪਾਨੀ|ਜਾਪਾਨੀ ਕੋਰੀਆਈ ਥਾਈ ਸਵਾਹਿਲੀ ਬੰਗਾਲੀ|ਬੰਗਲਾ ਤੇਲਗੂ|ਤੇਲੁਗੂ ਅਰਬੀ ਪੁਰਤਗਾਲੀ ਕੈਟਾਲਾਨ ਰੋਮਾਨੀਆਈ ਡੱਚ ਸਵੀਡਿਸ਼? ਡੈਨਿਸ਼? ਫਿਨਿਸ਼? ਇਸਟੋਨੀਆਈ ਲਿਥੁਆਨੀਅਨ ਪੋਲੈਂਡੀ|ਪੋਲਿਸ਼? ਚੈੱਕ(?=\s+(?:ਭਾਸ਼ਾ|ਬੋਲੀ)) ਸਲੋਵਾਕ ਕ੍ਰੋਏਸ਼ਿਆਈ ਹੰਗਰੀਆਈ ਤੁਰਕੀ(?=\s+(?:ਭਾਸ਼ਾ|ਬੋਲੀ)) ਇੰਡੋਨੇਸ਼ੀਆਈ ਵੀਅਤਨਾਮੀ ਯੂਕਰੇਨੀਆਈ|ਯੂਕਰੇਨੀ ਬੁਲਗਾਰੀਆਈ ਯੂਨਾਨੀ ਹਿਬਰੂ ਫ਼?ਾਰਸੀ ਉਰਦੂ ਹਿੰਦੀ ਮਰਾਠੀ ਗੁਜਰਾਤੀ ਪੰਜਾਬੀ ਤਮਿਲ ਕੰਨੜ ਮਲਿਆਲਮ",
    "ta": r"ஆங்கில ஸ்பானிஷ பிரெஞ்ச ஜெர்மன (?:ரஷியன|ரஷ்ய(?=\s*மொழி)) இத்தாலிய(?:ன|(?=\s*மொழி)) சீன ஜப்பானிய|ஜாப்பனீஸ கொரிய(?:ன|(?=\s*மொழி)) தாய்லாந்த(?=ு?\s*மொழி) ஸ்வாஹிலி வங்காள(?=(?:ம்)?\s*மொழி) தெலுங்க அரபி?க? போர்ச்சுகீஸ|போர்த்துகீசிய கேட்டலான ரோமேனியன டச்ச ஸ்வீடிஷ டேனிஷ ஃபின்னிஷ எஸ்டோனியன லிதுவேனியன போலிஷ செக(?=்\s*மொழி) ஸ்லோவாக குரோஷியன ஹங்கேரியன துருக்கி(?:ஷ|ய(?=\s*மொழி)) இந்தோனேஷியன வியட்நாமீஸ|வியட்நாமிய உக்ரைனியன பல்கேரியன கிரேக்க(?=(?:ம்)?\s*மொழி) ஹீப்ரூ? பெர்ஷியன|பாரசீக உருத இந்தி|ஹிந்தி மராத்தி குஜராத்தி பஞ்சாபி தமிழ கன்னட மலையாள",
    "kn": "ಇಂಗ್ಲಿಷ|ಇಂಗ್ಲೀಷ ಸ್ಪ್ಯಾನಿಷ ಫ್ರೆಂಚ ಜರ್ಮನ ರಷ್ಯನ ಇಟಾಲಿಯನ ಚೈನೀಸ ಜಾಪನೀಸ|ಜಪಾನೀಸ|ಜಪಾನಿ ಕೊರಿಯನ ಥಾಯ ಸ್ವಹಿಲಿ ಬಾಂಗ್ಲಾ|ಬಂಗಾಳಿ|ಬೆಂಗಾಲಿ ತೆಲುಗ ಅರೇಬಿಕ ಪೋರ್ಚುಗೀಸ ಕೆಟಲಾನ ರೊಮೇನಿಯನ ಡಚ ಸ್ವೀಡಿಷ|ಸ್ವೀಡಿಶ ಡ್ಯಾನಿಶ ಫಿನ್ನಿಶ ಎಸ್ಟೊನಿಯನ ಲಿಥುವೇನಿಯನ ಪೊಲಿಶ ಜೆಕ ಸ್ಲೋವಾಕ ಕ್ರೊಯೇಶಿಯನ ಹಂಗೇರಿಯನ ಟರ್ಕಿಶ ಇಂಡೋನೇಶಿಯನ ವಿಯೆಟ್ನಾಮೀಸ ಉಕ್ರೇನಿಯನ ಬಲ್ಗೇರಿಯನ ಗ್ರೀಕ ಹೀಬ್ರೂ ಪರ್ಶಿಯನ ಉರ್ದ ಹಿಂದಿ ಮರಾಠಿ ಗುಜರಾತಿ ಪಂಜಾಬಿ ತಮಿಳ ಕನ್ನಡ ಮಲಯಾಳ",
    "ml": r"ഇംഗ്ലീഷ സ്\u200c?പാനിഷ ഫ്രഞ്ച ജർമ്മ?[നൻ] റഷ്യ[നൻ] ഇറ്റാലിയ[നൻ] ചൈനീസ ജാപ്പനീസ കൊറിയ[നൻ] തായ സ്വാഹിലി ബംഗ്ലാ|ബംഗാളി തെലുങ്ക അറബി(?:ക)? പോർച്ചുഗീസ കറ്റാലാ[നൻ] റൊമാനിയ[നൻ] ഡച്ച സ്വീഡിഷ ഡാനിഷ ഫിന്നിഷ എസ്റ്റോണിയ[നൻ] ലിത്വാനിയ[നൻ] പോളിഷ ചെക്ക(?=്\s*ഭാഷ) സ്ലോവാക ക്രൊയേഷ്യ[നൻ] ഹംഗേറിയ[നൻ] ടർക്കിഷ ഇന്തോനേഷ്യ[നൻ] വിയറ്റ്നാമീസ ഉക്രേനിയ[നൻ] ബൾഗേറിയ[നൻ] ഗ്രീക്ക ഹീബ്ര പേർഷ്യ[നൻ] ഉറുദ ഹിന്ദി മറാത്തി ഗുജറാത്തി പഞ്ചാബി തമിഴ കന്ന[ഡട] മലയാള",
}  # fmt: skip

# How each language says "in <language>"; NAME is replaced by the names of the other languages. If the nation's adjective
# precedes its noun in the same form ("in Chinese medicine", "на китайском рынке"), the text after the name decides.
# Otherwise END must follow: a short word, a punctuation mark or the end of the line.
_PHRASES = {
    "en": r"\b(?:in|into)\s+(?:(?!the\b|an?\b)\w+\s+)?NAME\b(?!\s*-\s*\w)(?=\s+(?:\w{1,3}|language|about|that|with|from|using|please|which|what|where|when|without|instead|only)\b|\s*(?:[^\w\s]|\n|\Z))",
    "es": r"\ben\s+(?:idioma\s+|lengua\s+)?NAME\b",
    "fr": r"\ben\s+(?:langue\s+)?NAME\b",
    "de": r"\b(?:auf|in)\s+(?:\w+em\s+)?NAME\b|\bins\s+(?-i:NAME)e\b|\bin\s+NAMEer\s+Sprache\b",
    "ru": r"\bна\s+(?:\w+[ое]м\s+)?NAME(?:ом|ий)?\b(?:\s+язык|(?!\s+\w{3,}(?:е|у|и|ах|ях|ок)\b))|\bпо-NAMEи\b",
    "it": r"\bin\s+(?:lingua\s+)?NAME\b",
    "zh": r"[用以成]\s*NAME(?![件档檔本字化明])",
    "ja": r"NAME(?:で|にして|に直し)",
    "ko": r"NAME로",
    "th": r"(?:เป็น|ใน|ด้วย|ใช้)\s*ภาษา\s*NAME",
    "sw": r"\b(?:kwa|katika)\s+(?:lugha\s+ya\s+)?NAME\b",
    "bn": r"NAME(?:\s*ভাষা(?:য়|তে)|তে|য়)",
    "te": r"NAME[\s\u200c]*(?:భాష)?లో",
    "ar": r"(?:\bو?ب|\b[إا]لى\s+)ال(?:لغة\s+ال)?NAMEة",
    "pt": r"\bem\s+(?:idioma\s+|língua\s+)?NAME\b",
    "ca": r"\ben\s+(?:idioma\s+|llengua\s+)?NAME\b",
    "ro": r"\b[îi]n\s+(?:limba\s+)?NAME\b",
    "nl": r"\b(?:in|naar)\s+(?:het\s+)?(?:(?!de\b|een\b)\w+\s+)?NAME\b(?!\s*-\s*\w)",
    "sv": r"\b(?:på|till)\s+(?:(?!de[nt]?\b)\w+\s+)?NAME\bEND",
    "da": r"\b(?:på|til)\s+(?:(?!de[nt]?\b)\w+\s+)?NAME\bEND",
    "fi": r"\bNAME(?:ksi\b|n\s+kiel(?:ellä|elle|eksi)\b)",
    "et": r"\bNAME\s+keel(?:es|de)\b",
    "lt": r"\bNAME(?:i?škai\b|(?:i?ų)?\s+kalba\bEND)|\bį\s+NAME(?:i?ų)?\s+kalbą\b",
    "pl": r"\bpo\s+NAMEu\b|\bw\s+(?:\w+\s+)?języku\s+NAME(?:im)?\b|\bna\s+(?:język\s+NAMEi?\b|NAMEi\bEND)",
    "cs": r"\b(?:ve?|do)\s+(?:\w+\s+)?NAME[ěy]\b|(?<!učit )(?<!učit se )\bNAMEy\b(?<=ky)",
    "sk": r"\bpo\s+NAMEy\b|\b(?:vo?|do)\s+(?:\w+\s+)?NAME[ey]\b",
    "hr": r"\bna\s+(?:\w+om\s+)?NAME(?:om|i|u)?\b(?:\s+jezik|END)",
    "hu": r"(?<!tanulni )(?<!tanuljak )(?<!tanulok )\bNAME(?:[uü]l\b(?!\s+tanul)|\s+nyelv(?:en|re)\b)",
    "tr": r"\bNAME(?:\s+(?:dilin(?:de|e)|dili\s+ile|olarak|yaz|cevap|yanıt|anlat|söyle|açıkla|özetle)|['’]?y[ae]\b)",
    "id": r"\b(?:(?:dalam|ke|pakai|menggunakan|dengan)\s+bahasa|berbahasa)\s+NAME\b",
    "vi": r"\b(?:bằng|sang|trong|dùng)\s+tiếng\s+NAME\b",
    "uk": r"\bNAME(?:ою)?\s+мовою\b|\bNAMEою\bEND|\bмовою\s+NAME\b|\bна\s+NAME(?:у\s+мову\b|у?\bEND)|\bпо-NAMEи\b",
    "bg": r"\bна\s+(?:\w+\s+)?NAME\b(?:\s+език|END)",
    "el": r"\b(?:στα|σε)\s+(?:\w+\s+)?NAME[άα]?\bEND|\b(?:στην|σε)\s+NAMEή\s+γλώσσα",
    "he": r"\bו?ב(?:שפה\s+ה)?NAME\b",
    "fa": r"\bبه\s+(?:زبان\s+)?NAME\b(?!\u200c)",
    "ur": r"\bNAME\s+(?:زبان\s+)?میں\b",
    "hi": r"STARTNAME\s+(?:भाषा\s+)?में",
    "mr": r"STARTNAME(?:त|\s*मध्ये|\s+भाषेत)",
    "gu": r"STARTNAME\s*(?:ભાષા)?માં",
    "pa": r"STARTNAME\s+(?:(?:ਭਾਸ਼ਾ|ਬੋਲੀ)\s+)?ਵਿੱ?ਚ",
    "ta": r"STARTNAME(?:(?:[்ு]|ம்|ன்)?\s*மொழி(?:யில்|க்கு)|த்தில்|ு?வில்|யில்|ில்)",
    "kn": r"STARTNAME[್ುಂ]?[\u200c\s]*(?:ಭಾಷೆ)?(?:ಯಲ್ಲಿ|(?<!ಿ)ನಲ್ಲಿ|ದಲ್ಲಿ|ವಿನಲ್ಲಿ|ಿನಲ್ಲಿ)",
    "ml": r"STARTNAME(?:[്ു]|ം)?(?:\s*ഭാഷ)?(?:ിൽ|യിൽ|വിൽ|ത്തിൽ)",
}
_END = r"(?=\s+\w{1,3}\b|\s*(?:(?!-\w)[^\w\s]|\n|\Z))"
_START = r"(?<![\w\u0900-\u0dff])"  # \b does not handle the vowel signs of Indic scripts


@cache
def _phrase(language: str) -> re.Pattern[str] | None:
    """The pattern of a request for any language but the prompt's own; None if its phrases are not known."""
    if language not in _NAMES:
        return None
    names = dict(zip(_COLUMNS.split(), _NAMES[language].replace("_", r"\s+").split(), strict=True))
    if language == "en":
        names = {code: entry.name for code, entry in LANGUAGES.items()} | names
    others = "|".join(name for code, name in names.items() if code != language)
    pattern = _PHRASES[language].replace("END", _END).replace("START", _START).replace("NAME", f"(?:{others})")
    # Bengali has two encodings of one letter; NFC makes them equal.
    return re.compile(unicodedata.normalize("NFC", pattern), re.IGNORECASE)


def asks_for_other_language(prompt: str, language: str) -> bool:
    """Whether a prompt written in `language` asks for text in another language of the table, or for a translation.

    It looks at words alone: a prompt that only mentions texts in another language ("films in French") counts as a
    request, and so does a translation into the prompt's own language. Raises ValueError for a language not in the table.
    """
    text = unicodedata.normalize("NFC", prompt)
    lower = text.lower()
    if any(word in lower for word in get_language(language).translation_words):
        return True
    phrase = _phrase(language)
    return phrase is not None and phrase.search(text) is not None
