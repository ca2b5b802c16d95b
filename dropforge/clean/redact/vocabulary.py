"""Words that tell names from other words."""

from __future__ import annotations

from dropforge.clean.redact.kinds import words

# Given names frequent enough to be told from words by themselves, in a dozen languages.
GIVEN = frozenset(
    words(
        "aaron abdul adam adele adrian adriana adrien agnieszka ahmad ahmed aisha akira alan"
        " albert alberto alejandra alejandro alessandro alessia alessio alex alexander alexandra"
        " alexandre alexis alfredo ali alice alicia alina aline alison alvaro amanda amelia amir"
        " amit amy ana ananya anastasia andre andrea andreas andres andrew andrey andrzej angela"
        " angelika anil anita anja anjali anke ann anna anne annette annika antoine anton"
        " antonella antonio arjen arjun arnaud arne arthur ashley aurelie axel ayse barbara bart"
        " bas bastian bea beatriz ben benjamin bernd betty bianca birgit bjorn bob bogdan boris"
        " bram brandon brian bruno burak camila camille carl carla carlos carmen carol caroline"
        " catherine cecilia cedric celine charles charlotte chen chiara chidi chinedu chloe chris"
        " christian christina christine christoph christopher claire clara claudia clement"
        " cornelia cristina cynthia daan dagmar damien dan dana daniel daniela danielle darius"
        " david dawid deborah deepak deniz dennis diana diego dieter dirk dmitri dominik donna"
        " dorota dorothy eduardo edward ekaterina elena elias elif elisa elizabeth ella ellen"
        " emily emma emre enrique eric erik ernesto esra esther eva fabian fabio farid fatima"
        " federico felix fernanda fernando filip fiona florence florian francesca francesco"
        " francisco francois frank fred frederic frederik gabriel gabriela geert gemma george gerd"
        " gianluca giorgio giovanni giulia gloria greg grzegorz guido guillaume gunther gustavo"
        " hakan hamza hanna hannah hans harry haruto hassan heather heike heinz helen helena helga"
        " henry holger hugo hyun ian ibrahim ilse imran ines inga ingeborg ingrid irina isabel"
        " isabela isabella isabelle ivan jack jacob jaime jakob jamal james jan jana jane janet"
        " jason javier jean jeff jennifer jens jeroen jerome jessica jesus jim joan joana joanna"
        " joao joe johan johannes john jolanda jonas jonathan jorge jorgen jose josef joseph josh"
        " joshua juan judith julia julian julie juliette jurgen kaito kamil karen karin karl"
        " karolina kasper katarzyna kate katharina katherine kathleen katie katja katrin kavita"
        " keith kelly kenji kenneth kevin khalid kim klaus kristin krzysztof kumar kyle lara lars"
        " laura lauren laurent layla lea leila lena leo leon leonardo leticia li liam lieke lina"
        " linda lisa lorenzo lotte louis louise luca lucas lucia lucie luis luisa luiz lukas luke"
        " maarten maciej madison magda magdalena mahmoud maja malgorzata manuel manuela marc marco"
        " marcos marcus marek margaret margot maria mariana marie marina mario marion marlene"
        " marta martha martin martina mary mateo mateusz mathieu mats matteo matthew matthias max"
        " megan mehmet mei melanie melissa mia michael michal michel michelle miguel mike miriam"
        " mirko mohamed mohammad mohammed monica monika mustafa nadia nancy natalia natalie"
        " natascha natasha nathan neha ngozi nick nicola nicolas nicole niklas nils nina nkechi"
        " noah nora oksana olena olga oliver olivia olivier omar orla oscar oskar pablo pamela"
        " paola pascal patricia patrick paul paula pauline paulo pavel pawel pedro peter petra"
        " philip philipp pierre piet pieter piotr pooja priya rachel radek rafael rahul raj rajesh"
        " ralf ramesh ramon ravi rebecca renata renate reza ricardo richard rik rita robert"
        " roberta roberto roger rohit roman ronald rosa ruben rui ruth ryan ryo sabine salma sam"
        " samantha samuel sander sandra sanjay sanne santiago sara sarah sascha scott sean"
        " sebastian sergei sergey sergio shanice sharon shreya silke silvia simon simone siobhan"
        " sofia sofie sonia sophia sophie soren stanislav stefan stefanie stephane stephanie"
        " stephen steve steven sunita suresh susan susanne sven svetlana swati sylvia tadeusz"
        " takashi tanja tatiana teresa teun theo theresa thiago thomas thorsten tim timothy tina"
        " tobias tom tomas tomasz torsten tyler ulrich ulrike ursula ute uwe valentina valeria"
        " valerie vanessa vanja vera veronica victor victoria vijay vikas vikram viktor vincent"
        " vladimir walter wei werner will william wim wojciech wolfgang xavier yannick yasmin"
        " yasmine yolanda yuki yuko yusuf yves yvonne zainab zeynep zoe"
    )
)
# Names that are words as well: never taken without a capital.
WORDS_TOO = frozenset(
    words(
        "will mark rose grace hope summer bill art rich christian sunny joy faith april june"
        " august victor page young brown black white green king long best price day may rob sue"
        " pat jack drew chase grant frank guy gene ray dale miles wood banks cook fox hunter love"
        " baker stone field hill lake park case code order help test store shop post mail home"
        " light power card cash gold silver cross sharp wise ernst klein gross groß lang kurz jung"
        " alt weiß schwarz koch bauer richter könig petit grand rossi blanc noir roman angel stern"
        " major bishop pope prince duke earl knight pearl ruby amber crystal ginger iris lily"
        " daisy ivy violet olive sage holly robin dean lance skip max chance trip bridge street"
        " ford bond cole cooper mason carter parker taylor sales rice bean"
    )
)
NOBODY = frozenset(
    words(
        "customer guest user unknown anonymous test admin client none null support info sales"
        " agent team account service contact office the and requester n/a name company gmbh ltd"
        " inc llc"
    )
)
NOT_A_NAME = frozenset(
    words(
        "there all everyone everybody team support customer sir madam folks guys friend friends"
        " valued service member user agent chat bot assistant help helpdesk amazon google"
        " microsoft apple again please thank thanks hello hi hey good dear world sirs madams"
        " colleague colleagues and or i i'm im my we our your you the this that it is was have has"
        " can could would will do does did not no yes ok okay just any some may who what when"
        " where why how if for from to in on at by of as be so but sorry welcome morning afternoon"
        " evening day night today order ticket refund shipping delivery damen herren kunde kundin"
        " kundenservice zusammen kundendienst leute ich sie wir ihr es das die der ein eine client"
        " cliente clients clientes équipe tous messieurs madame monsieur mesdames equipo equipe"
        " todos señores señor señora senhor senhora senhores je vous nous le la les un une el los"
        " las mi su tu me estoy soy yo buenos buenas dias días tardes o a os eu meu minha clienti"
        " tutti signori signora signore il lo gli io allemaal klant heer mevrouw meneer ik het een"
        " subject re fwd update urgent question regarding about need issue problem note mr mrs ms"
        " dr herr frau sr sra concerned whom hiring manager moderator seller buyer shop store"
    )
)
