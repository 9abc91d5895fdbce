/* One guest, run twice. */
#pragma once

enum paging { BY_SHADOW_TABLES, BY_EPT };

/* Loads the guest anew and enters it. The VM exits come to exits.c, which begins the next run at the guest's end. */
_Noreturn void begin_run(enum paging paging);
/* The one that is under way. */
enum paging current_run(void);

/* Of vmx.h's numbers those that only shadow paging needs (SDM volume 3C; appendices B and C of volume 3D). */
#define EXIT_INTERRUPTION_INFORMATION 0x4404
#define EXIT_INTERRUPTION_ERROR_CODE 0x4406
#define IDT_VECTORING_INFORMATION 0x4408
#define IDT_VECTORING_ERROR_CODE 0x440A
#define EXIT_REASON_EXCEPTION_OR_NMI 0
#define EXIT_REASON_INVLPG 14
#define PRIMARY_INVLPG_EXITING BIT(9)
#define PRIMARY_CR3_LOAD_EXITING BIT(15)
#define PRIMARY_CR3_STORE_EXITING BIT(16)
#define EXCEPTION_PAGE_FAULT 14
